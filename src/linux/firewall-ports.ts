import { type Family, familyOf, type Ip } from "../net/ip.ts";
import type { Prefix } from "../net/prefix.ts";
import type { ExplainedElement, ExplainedRule } from "./firewall-explain.ts";

/**
 * The nftables part of published ports, as text for `nft -f -`: a table of its own whose rules are a fixed number of look-ups
 * in maps, so that a packet costs the same with one mapping and with ten thousand. Every batch brings the rules along:
 * whatever was flushed meanwhile is whole again after it.
 */

export type PortProtocol = "tcp" | "udp" | "sctp";

/** Ports of the host that lead to a sandbox, of one family. */
export interface PortForward {
  readonly protocol: PortProtocol;
  /** One address of the host; absent where all of the family are meant. */
  readonly hostAddress?: Ip;
  /** The first of `count` ports on the host. */
  readonly hostPort: number;
  /** The sandbox's address; its family is the mapping's. */
  readonly to: Ip;
  /** The first of `count` ports in the sandbox. */
  readonly port: number;
  readonly count: number;
  /** Where clients live that would be answered past the host: they get its address as source. */
  readonly subnet: Prefix;
}

interface Element {
  readonly set: string;
  readonly key: string;
  readonly value?: string;
}

const checkPort = (port: number): number => {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new RangeError(`${port} is not a port`);
  return port;
};

/** A range that keeps its numbers is one interval: nft has no arithmetic for one that does not. */
const portElements = (forward: PortForward): readonly Element[] => {
  const { protocol, hostAddress, hostPort, to, port, count } = forward;
  const family = familyOf(to);
  if (hostAddress !== undefined && familyOf(hostAddress) !== family) {
    throw new RangeError(`${hostAddress} and ${to} are of two families`);
  }
  checkPort(hostPort + count - 1);
  checkPort(port + count - 1);
  const address = hostAddress === undefined ? "" : `${hostAddress} . `;
  const where = hostAddress === undefined ? "any" : "one";
  if (count > 1 && hostPort === port) {
    const key = `${address}${protocol} . ${checkPort(hostPort)}-${hostPort + count - 1}`;
    return [{ set: `range_${where}${family}`, key, value: to }];
  }
  return Array.from({ length: count }, (_, n) => ({
    set: `port_${where}${family}`,
    key: `${address}${protocol} . ${checkPort(hostPort + n)}`,
    value: `${to} . ${checkPort(port + n)}`,
  }));
};

/** All elements by set; of a set one command, so that ten thousand ports are not ten thousand commands. */
const elements = (forwards: readonly PortForward[]): ReadonlyMap<string, ReadonlyMap<string, string | undefined>> => {
  const sets = new Map<string, Map<string, string | undefined>>();
  const hairpins = forwards.map(
    ({ to, subnet }): Element => ({ set: `hairpin${familyOf(to)}`, key: `${subnet} . ${to}` }),
  );
  for (const { set, key, value } of [...forwards.flatMap(portElements), ...hairpins]) {
    const known = sets.get(set) ?? new Map<string, string | undefined>();
    sets.set(set, known.set(key, value));
  }
  return sets;
};

const change = (verb: "add" | "delete", table: string, forwards: readonly PortForward[]): string =>
  [...elements(forwards)]
    .map(([set, entries]) => {
      const list = [...entries].map(([key, value]) => (value === undefined ? key : `${key} : ${value}`));
      return `${verb} element inet ${table} ${set} { ${list.join(", ")} }\n`;
    })
    .join("");

const familyTables = (family: Family): string => {
  const address = `ipv${family}_addr`;
  return `  map port_one${family} { type ${address} . inet_proto . inet_service : ${address} . inet_service; comment "a port of one address"; }
  map port_any${family} { type inet_proto . inet_service : ${address} . inet_service; comment "a port of every address"; }
  map range_one${family} { type ${address} . inet_proto . inet_service : ${address}; flags interval; comment "a range of one address"; }
  map range_any${family} { type inet_proto . inet_service : ${address}; flags interval; comment "a range of every address"; }
  set hairpin${family} { type ${address} . ${address}; flags interval; comment "neighbours of a sandbox with ports"; }
  chain publish${family} {
  }
`;
};

interface Rule {
  readonly rule: string;
  readonly reason: string;
}

/** The rules of chain `publish4` or `publish6`, by the set that they look into. */
const publishRules = (family: Family): Readonly<Record<string, Rule>> => {
  const ip = family === 4 ? "ip" : "ip6";
  const one = `${ip} daddr . meta l4proto . th dport map`;
  const any = "meta l4proto . th dport map";
  const ports = "meta l4proto { tcp, udp, sctp }";
  return {
    loopback: {
      rule: `${ip} daddr ${family === 4 ? "127.0.0.0/8" : "::1"} return`,
      reason: "clients on the loopback are the daemon's to serve: no sandbox sees 127.0.0.1 (CVE-2021-20199)",
    },
    port_one: { rule: `${ports} dnat ${ip} to ${one} @port_one${family}`, reason: "a port of one address" },
    port_any: { rule: `${ports} dnat ${ip} to ${any} @port_any${family}`, reason: "a port of every address" },
    range_one: { rule: `dnat ${ip} to ${one} @range_one${family}`, reason: "a range of one address keeps its numbers" },
    range_any: {
      rule: `dnat ${ip} to ${any} @range_any${family}`,
      reason: "a range of every address keeps its numbers",
    },
  };
};

const dispatch: Rule = {
  rule: "fib daddr type local meta l4proto { tcp, udp, sctp } meta nfproto vmap { ipv4 : jump publish4, ipv6 : jump publish6 }",
  reason: "only what is meant for this host: traffic in transit is nobody's (CVE-2025-67499)",
};

const hairpin = (family: Family): Rule => {
  const ip = family === 4 ? "ip" : "ip6";
  return {
    rule: `ct status dnat ${ip} saddr . ${ip} daddr @hairpin${family} masquerade`,
    reason: "a neighbour in the sandbox's network would be answered past the host",
  };
};

/** After the usual priority: translations of others go first, whoever was there first (CVE-2019-9946). */
const hooks = {
  prerouting: "type nat hook prerouting priority dstnat + 1; policy accept;",
  output: "type nat hook output priority -99; policy accept;",
  postrouting: "type nat hook postrouting priority srcnat; policy accept;",
} as const;

/** A chain's rules, put in place of whatever is in it. */
const fill = (table: string, chain: string, rules: readonly Rule[]): string =>
  [
    `flush chain inet ${table} ${chain}\n`,
    ...rules.map(({ rule, reason }) => `add rule inet ${table} ${chain} ${rule} comment "${reason}"\n`),
  ].join("");

/** The table, its rules as they should be; what its maps hold is not touched. */
const skeleton = (table: string): string =>
  [
    `table inet ${table} {\n  comment "dnet: published ports"\n`,
    familyTables(4),
    familyTables(6),
    ...Object.entries(hooks).map(([chain, hook]) => `  chain ${chain} {\n    ${hook}\n  }\n`),
    "}\n",
    ...([4, 6] as const).map((family) => fill(table, `publish${family}`, Object.values(publishRules(family)))),
    fill(table, "prerouting", [dispatch]),
    fill(table, "output", [dispatch]),
    fill(table, "postrouting", [hairpin(4), hairpin(6)]),
  ].join("");

/**
 * The rules by which a port of the host is led on.
 * @param port in the sandbox
 * @param owner whose the port is, such as `container web`
 */
export const explainForward = (forward: PortForward, port: number, owner: string): readonly ExplainedRule[] => {
  const family = familyOf(forward.to);
  const chain = `publish${family}`;
  const [{ set }] = portElements(forward) as readonly [Element];
  const rules = publishRules(family);
  const { rule = "" } = rules[set.replace(/[46]$/, "")] ?? {};
  return [
    ...(["prerouting", "output"] as const).map((name) => ({ chain: name, hook: hooks[name], ...dispatch })),
    ...(rules.loopback ? [{ chain, ...rules.loopback }] : []),
    { chain, rule, reason: `${set} leads it to ${forward.to} port ${port} of ${owner}` },
    { chain: "postrouting", hook: hooks.postrouting, ...hairpin(family) },
  ];
};

/** What a forward puts into the sets, for people. */
export const forwardElements = (forward: PortForward): readonly ExplainedElement[] => {
  const purposes: Readonly<Record<string, string>> = {
    port_one: "a port of one address",
    port_any: "a port of every address",
    hairpin: "neighbours of a sandbox with ports",
  };
  return [...elements([forward])].flatMap(([set, entries]) =>
    [...entries].map(([key, value]) => ({
      set,
      element: value === undefined ? key : `${key} : ${value}`,
      purpose: purposes[set.replace(/[46]$/, "")] ?? "",
    })),
  );
};

/** The batch that publishes ports; those that are published already in the same way stay. */
export const portsAdd = (table: string, forwards: readonly PortForward[]): string =>
  `${skeleton(table)}${change("add", table, forwards)}`;

/** The batch that takes ports back, also where somebody flushed them: they are added first. */
export const portsRemove = (table: string, forwards: readonly PortForward[]): string =>
  `${portsAdd(table, forwards)}${change("delete", table, forwards)}`;

/** The batch that takes some ports back and publishes others, at once. */
export const portsReplace = (table: string, before: readonly PortForward[], after: readonly PortForward[]): string =>
  `${portsRemove(table, before)}${change("add", table, after)}`;

/** The batch that removes the table, also where it is not there. */
export const portsClear = (table: string): string => `add table inet ${table}\ndelete table inet ${table}\n`;

/** The batch that replaces the whole table by one for these ports, atomically. */
export const portsRuleset = (table: string, forwards: readonly PortForward[]): string =>
  `${portsClear(table)}${forwards.length === 0 ? "" : portsAdd(table, forwards)}`;
