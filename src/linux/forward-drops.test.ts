import { describe, expect, it } from "vitest";
import { forwardDropsIn, letsThrough, letThroughCommands } from "./forward-drops.ts";

/** As `nft -s -t list ruleset` prints it. */
const docker = (user: string): string => `# Warning: table ip filter is managed by iptables-nft, do not touch!
table ip filter {
\tchain DOCKER {
\t\tip daddr 172.17.0.2 iifname != "docker0" oifname "docker0" tcp dport 80 counter accept
\t}

\tchain FORWARD {
\t\ttype filter hook forward priority filter; policy drop;
\t\tcounter jump DOCKER-USER
\t\toifname "docker0" ct state related,established counter accept
\t\toifname "docker0" counter jump DOCKER
\t\tiifname "docker0" oifname != "docker0" counter accept
\t}

\tchain DOCKER-USER {
${user}\t\tcounter return
\t}
}
table inet dnet_0badcafe {
\tset bridges {
\t\ttype ifname
\t}

\tchain forward {
\t\ttype filter hook forward priority filter; policy accept;
\t\tiifname != @bridges oifname != @bridges accept
\t\tmeta nfproto . oifname vmap @arriving
\t}
}
`;

const only = (listing: string) => {
  const [drop, ...more] = forwardDropsIn(listing);
  if (!drop || more.length > 0) throw new Error(`found ${more.length + (drop ? 1 : 0)}`);
  return drop;
};

it("a Docker's policy is found, and that it lets its own bridge through but not ours", () => {
  const drop = only(docker(""));
  expect(drop).toMatchObject({ chain: "ip filter FORWARD", families: [4], program: "docker" });
  expect(letsThrough(drop, "docker0")).toBe(true);
  expect(letsThrough(drop, "br-web")).toBe(false);
});

it.each([
  ["neither direction", "", false],
  ["one direction", '\t\tiifname "br-web" oifname "eth0" counter accept\n', false],
  ["the other", '\t\toifname "br-web" counter accept\n', false],
  ["both", '\t\tiifname "br-web" oifname "eth0" counter accept\n\t\toifname "br-web" counter accept\n', true],
  ["both, of every bridge", '\t\tiifname "br-*" counter accept\n\t\toifname "br-*" counter accept\n', true],
  ["both, in a list", '\t\tiifname { "a", "br-web" } accept\n\t\toifname { "br-web", "b" } accept\n', true],
  ["everything but one", '\t\tiifname != "br-web" accept\n\t\toifname != "br-web" accept\n', false],
  ["everything", "\t\tcounter accept\n", true],
  ["another bridge", '\t\tiifname "br-web2" accept\n\t\toifname "br-web2" accept\n', false],
  ["a drop", '\t\tiifname "br-web" drop\n\t\toifname "br-web" drop\n', false],
])("what accepts %s is understood", (_what, rules, through) => {
  expect(letsThrough(only(docker(rules)), "br-web")).toBe(through);
});

describe("other firewalls", () => {
  const firewalld = (zones: string): string => `table inet firewalld {
\tchain filter_FORWARD {
\t\ttype filter hook forward priority filter + 10; policy accept;
\t\tct state { established, related } accept
\t\tct status dnat accept
\t\tjump filter_FORWARD_POLICIES
\t\treject with icmpx admin-prohibited
\t}

\tchain filter_FORWARD_POLICIES {
${zones}\t}
}
`;

  it("that refuse what is left at the end are found: firewalld, and which bridges it has in a zone", () => {
    const drop = only(firewalld(""));
    expect(drop).toMatchObject({ chain: "inet firewalld filter_FORWARD", families: [4, 6], program: "firewalld" });
    expect(letsThrough(drop, "br-web")).toBe(false);
    expect(letsThrough(only(firewalld('\t\tiifname "br-web" jump filter_FWD_trusted\n')), "br-web")).toBe(true);
    expect(letThroughCommands(drop, "br-web", "eth0")).toBe(
      "firewall-cmd --permanent --zone=trusted --add-interface=br-web; firewall-cmd --reload",
    );
  });

  it.each([
    [
      "ip6 filter FORWARD",
      "policy drop;",
      "",
      "ip6tables -I FORWARD -i b -o eth0 -j ACCEPT; ip6tables -I FORWARD -o b -j ACCEPT",
    ],
    [
      "inet mine through",
      "policy accept;",
      '\t\tcounter drop comment "no"\n',
      "nft insert rule inet mine through iifname b oifname eth0 accept; nft insert rule inet mine through oifname b accept",
    ],
  ])("%s: its rules are named in its own words", (chain, policy, rule, commands) => {
    const [family, table, name] = chain.split(" ");
    const drop = only(
      `table ${family} ${table} {\n\tchain ${name} {\n\t\ttype filter hook forward priority filter; ${policy}\n${rule}\t}\n}\n`,
    );
    expect(drop.chain).toBe(chain);
    expect(letThroughCommands(drop, "b", "eth0")).toBe(commands);
    expect(letThroughCommands(drop, "b")).toBe(commands.replace(/ (-o|oifname) eth0/, ""));
  });

  it("that drop elsewhere, or on a bridge, are none of it", () => {
    const chainOf = (family: string, hook: string) =>
      `table ${family} t {\n\tchain c {\n\t\ttype filter hook ${hook} priority filter; policy drop;\n\t}\n}\n`;
    expect(forwardDropsIn(chainOf("inet", "input") + chainOf("bridge", "forward"))).toEqual([]);
  });
});
