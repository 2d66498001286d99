import { spawn } from "node:child_process";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { enterOwnHost, eventually, expectNothingLeft, run, setResolvConf, shell } from "../own-host.ts";
import {
  at,
  connects,
  here,
  inject,
  inPlace,
  Lab,
  Neighbour,
  outputOf,
  reaches,
  type Sandbox,
} from "./firewall-lab.ts";
import { ethernet, routerAdvertisement } from "./frames.ts";

/** Attacks that were advisories for others, one test each, named after it. */

let lab: Lab;
let neighbour: Neighbour;

beforeAll(async () => {
  enterOwnHost();
  neighbour = new Neighbour();
  await neighbour.connect();
  lab = await Lab.open();
});
afterEach(() => lab.clear());
afterAll(async () => {
  await lab.close();
  await neighbour.close();
  expectNothingLeft();
});

const families = [4, 6] as const;
const addressesOf = (sandbox: Sandbox, network: string): readonly string[] =>
  families.flatMap((family) => sandbox.addresses[network]?.[family] ?? []);

/** Rules of a firewall that is reloaded: its own table made anew, everything else flushed or not. */
const reload = (flush: boolean): void => {
  shell(`nft -f - <<'EOF'
${flush ? "flush ruleset" : ""}
add table inet firewalld
delete table inet firewalld
table inet firewalld {
  chain filter_FORWARD {
    type filter hook forward priority filter + 10; policy accept;
    ct state established,related accept
  }
}
EOF`);
};

describe("after a firewall's reload", () => {
  afterEach(() => shell("nft delete table inet firewalld 2>/dev/null || true"));

  it.each([
    ["CVE-2025-54388: container addresses stay closed to the LAN, CVE-2025-54410: networks stay apart (flush)", true],
    ["CVE-2025-54388, CVE-2025-54410: the same where a reload leaves others' tables alone (firewalld)", false],
  ])("%s", async (_name, flush) => {
    const [web, other] = [await lab.network("web"), await lab.network("other")];
    const [target, attacker] = [await lab.sandbox("c1", web), await lab.sandbox("c2", other)];
    await lab.serve(target);
    neighbour.routeTo(web);
    const rules = () => shell("nft -s list ruleset | sed -n '/table inet dnet_[0-9a-f]* /,/^}/p'");
    const before = rules();
    reload(flush);
    await eventually("the rules are as before", () => rules() === before);
    for (const address of addressesOf(target, "web")) {
      const attacks = await Promise.all([connects(neighbour, address), connects(attacker, address)]);
      expect({ address, attacks }).toEqual({ address, attacks: [false, false] });
      expect(await reaches(here, address), address).toBe(true);
    }
    if (flush)
      await eventually("it is in the log", () => lab.log.some((line) => line.includes("found no table inet dnet_")));
    // The kernel has one table of neighbours for all namespaces: others' tests fill it, too.
    else expect(lab.log.filter((line) => !line.includes("neighbours is nearly full"))).toEqual([]);
  });
});

describe("router advertisements", () => {
  const state = (place: typeof here | Sandbox, device: string) =>
    at(place, "sh", "-c", `ip -6 address show dev ${device}; ip -6 route show dev ${device}; ip -6 route show default`);

  it("CVE-2020-13401, CVE-2020-10749: a sandbox's configure neither this host nor its peers", async () => {
    const network = await lab.network("web");
    const [attacker, peer] = [await lab.sandbox("c1", network), await lab.sandbox("c2", network)];
    // One that wants them: the frames arrive and are understood.
    const willing = await lab.sandbox("c3", network);
    inPlace(willing, "sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=2");
    const bridge = `br-${network.id.slice(0, 12)}`;
    const before = [state(here, bridge), state(peer, "eth0")];
    const source = at(attacker, "sh", "-c", "ip -6 -br address show dev eth0 scope link").match(
      /fe80::[0-9a-f:]+/,
    )?.[0];
    const frame = ethernet("ff02::1", attacker.mac, 0x86dd, routerAdvertisement(source ?? "", "2001:db8:bad::"));
    inject(attacker, "eth0", frame, frame);
    await eventually("the willing one is configured", () => state(willing, "eth0").includes("2001:db8:bad::"));
    expect([state(here, bridge), state(peer, "eth0")]).toEqual(before);
  });

  it("CVE-2024-32473: no IPv6 in a network without it, whatever is advertised on its link", async () => {
    const network = await lab.libnetwork.createNetwork({ name: "four" });
    const endpoint = await lab.libnetwork.createEndpoint(network.id, { name: "c1" });
    const { id, key } = await lab.libnetwork.createSandbox({ containerId: "c1" });
    await lab.libnetwork.attach(endpoint.id, id);
    const bridge = `br-${network.id.slice(0, 12)}`;
    const frame = ethernet("ff02::1", "02:00:00:00:00:99", 0x86dd, routerAdvertisement("fe80::99", "2001:db8:bad::"));
    const sandbox = { enter: `--net=${key}` };
    const count = () =>
      (
        JSON.parse(at(sandbox, "ip", "-j", "-s", "link", "show", "eth0")) as { stats64: { rx: { packets: number } } }[]
      )[0]?.stats64.rx.packets ?? 0;
    const before = count();
    inject(here, bridge, frame, frame, frame);
    await eventually("the frames arrive", () => count() >= before + 3);
    expect(at(sandbox, "ip", "-6", "address", "show", "dev", "eth0")).toBe("");
    expect(run("ip", "-6", "address", "show", "dev", bridge)).toBe("");
    await lab.libnetwork.deleteSandbox(id);
    await lab.libnetwork.deleteNetwork(network.id);
  });
});

describe("this host's own rules", () => {
  it("are not overridden: no accept of ours opens a default-drop INPUT or FORWARD (series of CVE-2023-28840)", async () => {
    const network = await lab.network("web");
    const sandbox = await lab.sandbox("c1", network);
    await lab.serve(here, 8081);
    await lab.serve(neighbour, 8080);
    const gateway = families.map((family) => sandbox.addresses.web?.[family]?.replace(/[^.:]+$/, "1") ?? "");
    for (const address of gateway) expect(await reaches(sandbox, address, 8081)).toBe(true);
    for (const family of families) expect(await reaches(sandbox, neighbour.addresses[family], 8080)).toBe(true);
    shell(`nft -f - <<'EOF'
table inet admin {
  chain input { type filter hook input priority filter; policy drop; icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; }
  chain forward { type filter hook forward priority filter; policy drop; }
}
EOF`);
    for (const address of gateway) expect(await connects(sandbox, address, 8081)).toBe(false);
    for (const family of families) expect(await connects(sandbox, neighbour.addresses[family], 8080)).toBe(false);
    shell("nft delete table inet admin");
  });

  it("complaint 32: the policies of the host's chains stay as they are, and so does what other programs forward", async () => {
    const far = new Neighbour(1);
    await far.connect();
    shell("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    at(far, "sh", "-c", `ip route add default via ${far.host[4]}; ip -6 route add default via ${far.host[6]}`);
    at(
      neighbour,
      "sh",
      "-c",
      `ip route add 203.0.114.0/24 via ${neighbour.host[4]}; ip -6 route add 2001:db8:114::/64 via ${neighbour.host[6]}`,
    );
    shell(`nft -f - <<'EOF'
table ip filter {
  chain FORWARD { type filter hook forward priority filter; policy accept; counter comment "theirs"; }
}
table ip6 filter {
  chain FORWARD { type filter hook forward priority filter; policy accept; }
}
EOF`);
    const theirs = () => shell("nft -s list table ip filter; nft -s list table ip6 filter");
    const before = theirs();
    await lab.serve(far, 8080);
    const passes = async () => {
      for (const family of families)
        await eventually(`IPv${family} passes`, () => reaches(neighbour, far.addresses[family], 8080));
    };
    await passes();
    const network = await lab.network("web");
    const sandbox = await lab.sandbox("c1", network);
    await passes();
    expect(theirs()).toBe(before);
    for (const family of families) expect(await reaches(sandbox, far.addresses[family], 8080)).toBe(true);
    // The servers go on.
    await lab.remove(sandbox, network);
    await passes();
    expect(theirs()).toBe(before);
    shell("nft delete table ip filter; nft delete table ip6 filter");
    at(neighbour, "sh", "-c", "ip route delete 203.0.114.0/24; ip -6 route delete 2001:db8:114::/64");
    await far.close();
  });

  it("decide first where they are in the user's own table, and are never touched", async () => {
    const network = await lab.network("web");
    const sandbox = await lab.sandbox("c1", network);
    await lab.serve(neighbour, 8080);
    shell(`nft -f - <<'EOF'
table inet dnet_user {
  chain forward { type filter hook forward priority filter - 10; policy accept; ip daddr ${neighbour.addresses[4]} counter drop; }
}
EOF`);
    const theirs = () => shell("nft -a -s list table inet dnet_user");
    const before = theirs();
    expect(await connects(sandbox, neighbour.addresses[4], 8080)).toBe(false);
    expect(await reaches(sandbox, neighbour.addresses[6], 8080)).toBe(true);
    const rules = () => shell("nft -s list ruleset | sed -n '/table inet dnet_[0-9a-f]* /,/^}/p'");
    const whole = rules();
    shell(`nft delete table inet $(nft list tables | sed -n 's/table inet \\(dnet_[0-9a-f]\\{8\\}\\)$/\\1/p')`);
    await eventually("ours are back", () => rules() === whole);
    expect(theirs()).toBe(before);
    shell("nft delete table inet dnet_user");
  });

  it("32: and traffic in transit pass us untouched, as do foreign policies", async () => {
    const far = new Neighbour(1);
    await far.connect();
    await lab.network("web");
    shell("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    at(far, "sh", "-c", `ip route add default via ${far.host[4]}; ip -6 route add default via ${far.host[6]}`);
    const there = ["203.0.114.0/24", "2001:db8:114::/64"].map(
      (to, n) => `ip ${n ? "-6" : ""} route add ${to} via ${n ? neighbour.host[6] : neighbour.host[4]}`,
    );
    at(neighbour, "sh", "-c", there.join("; "));
    await lab.serve(far, 53);
    for (const family of families) {
      // A fresh link looks for duplicates of its IPv6 addresses first.
      await eventually(`IPv${family} passes`, () => reaches(neighbour, far.addresses[family], 53));
    }
    await far.close();
  });
});

describe("names", () => {
  it("CVE-2025-8283: a search domain of the host's does not make a container's name that of a host outside", async () => {
    setResolvConf("nameserver 127.0.0.53\nsearch evil.example\n");
    // Says of every name that it is 198.51.100.66.
    const program = `const s = require("node:dgram").createSocket("udp4");
      s.on("message", (m, from) => {
        let at = 12; while (m[at]) at += m[at] + 1;
        process.stdout.write(m.subarray(12, at).toString("latin1").replace(/[^a-z0-9]+/g, ".") + "\\n");
        const reply = Buffer.concat([m.subarray(0, at + 5), Buffer.from("c00c000100010000003c0004c6336442", "hex")]);
        reply.writeUInt16BE(0x8180, 2); reply.writeUInt16BE(1, 6); reply.writeUInt32BE(0, 8);
        s.send(reply, from.port, from.address);
      });
      s.bind(53, "127.0.0.53", () => process.stdout.write("ready\\n"));`;
    const server = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"] });
    let asked = "";
    server.stdout.on("data", (chunk: Buffer) => {
      asked += chunk.toString();
    });
    await eventually("the server listens", () => asked.includes("ready"));
    const web = await lab.network("web");
    const [c1, c2] = [await lab.sandbox("c1", web), await lab.sandbox("c2", web)];
    // As a program in the container asks: by the C library, with the container's own files.
    const files = `/var/lib/docker/network/files/${c1.id}`;
    expect(shell(`cat ${files}/resolv.conf`)).toContain("search evil.example");
    const mounts = `mount --bind ${files}/resolv.conf /etc/resolv.conf; mount --bind ${files}/hosts /etc/hosts`;
    const lookUp = (name: string) =>
      outputOf(c1, "unshare", "--mount", "sh", "-c", `${mounts}; exec getent ahostsv4 ${name}`);
    expect(await lookUp("elsewhere")).toContain("198.51.100.66");
    expect(asked).toMatch(/elsewhere/);
    for (const name of ["c2", "C2", "c2.web"]) {
      const found = await lookUp(name);
      expect(found).toContain(c2.addresses.web?.[4]);
      expect(found).not.toContain("198.51.100.66");
    }
    expect(asked).not.toMatch(/c2/i);
    server.kill("SIGKILL");
    run("umount", "/etc/resolv.conf");
  });

  it("CVE-2024-29018: an internal network asks no server outside, not even one on the host's loopback", async () => {
    setResolvConf("nameserver 127.0.0.53\n");
    const program = `const s = require("node:dgram").createSocket("udp4");
      s.on("message", (m) => process.stdout.write(m.subarray(12).toString("latin1").replace(/[^a-z]+/g, ".") + "\\n"));
      s.bind(53, "127.0.0.53", () => process.stdout.write("ready\\n"));`;
    const server = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"] });
    let asked = "";
    server.stdout.on("data", (chunk: Buffer) => {
      asked += chunk.toString();
    });
    await eventually("the server listens", () => asked.includes("ready"));
    const [back, web] = [await lab.network("back", { internal: true }), await lab.network("web")];
    const [inside, outside] = [await lab.sandbox("c1", back), await lab.sandbox("c2", web)];
    const dig = (place: Sandbox, ...args: string[]) =>
      outputOf(place, "dig", "@127.0.0.11", "+tries=1", "+time=5", ...args);
    for (const more of [[], ["+tcp"], ["-x", "203.0.113.2"], ["-t", "TXT"]])
      expect(await dig(inside, "secret.example", ...more)).toContain("status: NXDOMAIN");
    await dig(outside, "+time=1", "known.example");
    await eventually("the control is asked", () => asked.includes("known.example"));
    expect(asked).not.toContain("secret");
    server.kill("SIGKILL");
    run("umount", "/etc/resolv.conf");
  });
});
