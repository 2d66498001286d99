import { familyOf, type Ip, ipFromBytes, ipToBigInt } from "../net/ip.ts";
import { type Mac, macToBytes } from "../net/mac.ts";
import { quoteInterface } from "./firewall-elements.ts";
import type { ExplainedRule } from "./firewall-explain.ts";

/**
 * Sandboxes that may not forge addresses: a table of family `bridge` that sees every frame a guarded port sends, before the
 * bridge does. It looks ports up in sets; frames of other ports pay for one look-up. It is there while a guarded port was added.
 */

/** A port of a bridge, and what its sandbox may call itself. */
export interface GuardedPort {
  /** Name of the link on the host. */
  readonly port: string;
  readonly mac: Mac;
  readonly addresses: readonly Ip[];
}

const hook = "type filter hook prerouting priority -300; policy accept;";

const rules: readonly (readonly [rule: string, reason: string])[] = [
  ["iifname != @guarded accept", "ports of others, and of networks without the option"],
  ["iifname . ether saddr != @own_mac counter drop", "its own hardware address only"],
  ["ether type != { ip, ip6, arp } counter drop", "no frames inside of which nobody looks"],
  ["iifname . ip saddr != @own4 counter drop", "its own IPv4 addresses only"],
  ["iifname . arp saddr ether != @own_mac counter drop", "no other hardware address inside of ARP"],
  ["arp saddr ip != 0.0.0.0 iifname . arp saddr ip != @own4 counter drop", "no claim to others' IPv4 addresses"],
  ["ip6 saddr != :: iifname . ip6 saddr != @own6 counter drop", "its own IPv6 addresses only"],
  ["icmpv6 type { nd-router-advert, nd-redirect } counter drop", "it is no router"],
  [
    "icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @target6 counter drop",
    "no claim to others' IPv6 addresses (RFC 4861 4.4: the target)",
  ],
];

/** The table, its rules as they should be; what its sets hold is not touched. */
const skeleton = (table: string): string => `table bridge ${table} {
  comment "dnet: sandboxes that may not forge addresses"
  set guarded { type ifname; comment "ports that are looked at"; }
  set own_mac { type ifname . ether_addr; comment "their hardware addresses"; }
  set own4 { type ifname . ipv4_addr; comment "their IPv4 addresses"; }
  set own6 { type ifname . ipv6_addr; comment "their IPv6 addresses"; }
  set target6 { typeof iifname . @th,64,128; comment "the same as in a neighbour advertisement"; }
  chain prerouting {
    ${hook}
  }
}
flush chain bridge ${table} prerouting
${rules.map(([rule, reason]) => `add rule bridge ${table} prerouting ${rule} comment "${reason}"\n`).join("")}`;

/** The address that an interface gives itself from its hardware address (RFC 4291 appendix A). */
const linkLocal = (mac: Mac): Ip => {
  const bytes = macToBytes(mac);
  const first = (bytes[0] ?? 0) ^ 2;
  return ipFromBytes(
    Buffer.concat([
      Buffer.from("fe80000000000000", "hex"),
      Buffer.from([first]),
      bytes.subarray(1, 3),
      Buffer.from("fffe", "hex"),
      bytes.subarray(3),
    ]),
  );
};

const elements = ({ port, mac, addresses }: GuardedPort): readonly string[] => {
  const name = quoteInterface(port);
  return [
    `guarded { ${name} }`,
    `own_mac { ${name} . ${mac} }`,
    ...[...addresses, linkLocal(mac)].flatMap((ip) =>
      familyOf(ip) === 4
        ? [`own4 { ${name} . ${ip} }`]
        : [`own6 { ${name} . ${ip} }`, `target6 { ${name} . 0x${ipToBigInt(ip).toString(16).padStart(32, "0")} }`],
    ),
  ];
};

const change = (verb: "add" | "delete", table: string, port: GuardedPort): string =>
  elements(port)
    .map((element) => `${verb} element bridge ${table} ${element}\n`)
    .join("");

/** The batch that has a port looked at from now on; it may be repeated, and brings the rules along. */
export const spoofAdd = (table: string, port: GuardedPort): string => `${skeleton(table)}${change("add", table, port)}`;

/** The batch that lets a port go, whatever of it is there. */
export const spoofRemove = (table: string, port: GuardedPort): string =>
  `${spoofAdd(table, port)}${change("delete", table, port)}`;

/** The batch that replaces the table by one for these ports; without any, by none. */
export const spoofRuleset = (table: string, ports: readonly GuardedPort[]): string => {
  const clear = `add table bridge ${table}\ndelete table bridge ${table}\n`;
  if (ports.length === 0) return clear;
  return `${clear}${skeleton(table)}${ports.map((port) => change("add", table, port)).join("")}`;
};

/** The batch that makes the table as the last port leaves it. */
export const spoofIdle = (table: string): string => `${spoofRuleset(table, [])}${skeleton(table)}`;

/** For people: the rules in their order, and why. */
export const spoofRules: readonly ExplainedRule[] = rules.map(([rule, reason]) => ({
  chain: "bridge prerouting",
  hook,
  rule,
  reason,
}));
