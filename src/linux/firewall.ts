import { familyOf, type Ip } from "../net/ip.ts";
import type { Prefix } from "../net/prefix.ts";
import { type Element, elementsOf } from "./firewall-elements.ts";
import type { PortExplanation } from "./firewall-explain.ts";
import { type Chain, chains, type NamedSet, ruleText, sets } from "./firewall-rules.ts";

/**
 * The host's ruleset as text for `nft -f -`: one table of our own with a fixed number of rules that look networks up in sets
 * and maps, so that its cost does not grow with their number. Every change is one atomic batch; the whole can be regenerated
 * from desired state.
 */

/** How a network's addresses of one family are reached from outside; the names are Docker's. */
export const gatewayModes = ["nat", "nat-unprotected", "routed", "isolated"] as const;
export type GatewayMode = (typeof gatewayModes)[number];

/** What the firewall must know of a bridge-like network. */
export interface FirewallNetwork {
  readonly bridge: string;
  readonly subnets: readonly Prefix[];
  /** No traffic with anything outside the network. */
  readonly internal: boolean;
  /** Traffic to the outside carries the host's address. */
  readonly masquerade: boolean;
  /** False where endpoints of the network may not talk to each other. */
  readonly icc: boolean;
  /** By family; `nat` without it. */
  readonly gatewayModes?: Readonly<Record<4 | 6, GatewayMode>>;
  /** Interfaces of the host from which everybody reaches every port of the network's sandboxes. */
  readonly trusted?: readonly string[];
  /** Its sandboxes may not forge addresses: `firewall-spoof.ts`. */
  readonly antiSpoofing?: boolean;
  /** Addresses of the host with which the network's traffic leaves; without one, the way's own. */
  readonly source?: Readonly<Partial<Record<4 | 6, Ip>>>;
}

/** A port of a sandbox that is reached at the sandbox's own address where its network is routed. */
export interface ReachablePort {
  readonly address: Ip;
  readonly protocol: "tcp" | "udp" | "sctp";
  /** The first of `count` ports. */
  readonly port: number;
  readonly count: number;
}

/** A table of another part (published ports) that is kept like ours. */
export interface FirewallPart {
  /** Family and name: `inet t`. */
  readonly table: string;
  /** The batch that makes it as it should be, whatever is there; or removes it. */
  ruleset(): string;
  /** What it lets in at sandboxes' own addresses. */
  reachable?(): readonly ReachablePort[];
  /** How it leads a port of this host on, and why; undefined where it does not. */
  explainPort?(port: number, protocol: ReachablePort["protocol"]): PortExplanation | undefined;
  /** Where the table need not be there now: the batch by which it may be there nevertheless, as whatever was in it last has left it. */
  readonly idle?: () => string | undefined;
}

/** One command a set, however many elements: that is what nft reads fastest. */
const statements = (verb: "add" | "delete", table: string, elements: readonly Element[]): string =>
  [...Map.groupBy(elements, ({ set }) => set)]
    .map(([set, entries]) => {
      const list = entries.map(({ key, value }) =>
        value === undefined || verb === "delete" ? key : `${key} : ${value}`,
      );
      return `${verb} element inet ${table} ${set} { ${list.join(", ")} }\n`;
    })
    .join("");

/** nft has no "delete if it is there" that every kernel knows; what is added first is there. */
const removal = (table: string, elements: readonly Element[]): string =>
  statements("add", table, elements) + statements("delete", table, elements);

const reachElements = (ports: readonly ReachablePort[]): readonly Element[] =>
  ports.map(({ address, protocol, port, count }) => ({
    set: `reachable${familyOf(address)}`,
    key: `${address} . ${protocol} . ${count > 1 ? `${port}-${port + count - 1}` : port}`,
  }));

/** The batch that brings a network under the ruleset; it may be repeated. */
export const firewallAdd = (table: string, network: FirewallNetwork): string =>
  statements("add", table, elementsOf(network));

/** The batch that takes a network out of it, whatever of it is there. */
export const firewallRemove = (table: string, network: FirewallNetwork): string => removal(table, elementsOf(network));

/** The batch that lets ports be reached at their sandboxes' addresses, where the network is routed; it may be repeated. */
export const firewallReach = (table: string, ports: readonly ReachablePort[]): string =>
  statements("add", table, reachElements(ports));

/** The batch that takes that back, whatever of it is there. */
export const firewallUnreach = (table: string, ports: readonly ReachablePort[]): string =>
  removal(table, reachElements(ports));

const setText = ({ name, kind, type, flags, purpose }: NamedSet): string =>
  `  ${kind} ${name} { type ${type}; ${flags === undefined ? "" : `flags ${flags}; `}comment "${purpose}"; }\n`;

const chainText = ({ name, hook, purpose, rules }: Chain): string =>
  [
    `  chain ${name} {\n    comment "${purpose}"\n`,
    hook === undefined ? "" : `    ${hook}\n`,
    ...rules.map((rule) => `    ${ruleText(rule)}\n`),
    "  }\n",
  ].join("");

/** The batch that replaces the whole table by one for these networks, and those of other parts, atomically. */
export const firewallRuleset = (
  table: string,
  networks: readonly FirewallNetwork[],
  parts: readonly FirewallPart[] = [],
): string =>
  [
    `add table inet ${table}\ndelete table inet ${table}\ntable inet ${table} {\n  comment "dnet: bridge networks"\n`,
    ...sets.map(setText),
    // A chain must be there before another names it.
    ...chains.filter(({ hook }) => hook === undefined).map(chainText),
    ...chains.filter(({ hook }) => hook !== undefined).map(chainText),
    "}\n",
    statements("add", table, [
      ...networks.flatMap(elementsOf),
      ...reachElements(parts.flatMap((part) => part.reachable?.() ?? [])),
    ]),
    ...parts.map((part) => part.ruleset()),
  ].join("");

/** The batch that removes the table, also where it is not there. */
export const firewallClear = (table: string): string => `add table inet ${table}\ndelete table inet ${table}\n`;
