import type { FirewallNetwork } from "./firewall.ts";
import { apartMark } from "./firewall-apart.ts";
import { isClosed, modeOf } from "./firewall-elements.ts";

/**
 * The rules of the host's table as data: a fixed number, whatever the number of networks. Each says why it is there; the
 * ruleset carries that as its comment and `dnet firewall explain` prints those that matter to a network.
 */

export interface Rule {
  readonly match: string;
  readonly verdict: string;
  /** At most 127 bytes: the kernel keeps it beside the rule. */
  readonly reason: string;
  /** True where the rule can decide about packets of the network. */
  readonly concerns: (network: FirewallNetwork) => boolean;
}

export interface Chain {
  readonly name: string;
  /** Absent for chains that others jump to. */
  readonly hook?: string;
  readonly purpose: string;
  readonly rules: readonly Rule[];
}

export interface NamedSet {
  readonly name: string;
  readonly kind: "set" | "map";
  readonly type: string;
  readonly flags?: string;
  readonly purpose: string;
}

export const sets: readonly NamedSet[] = [
  { name: "bridges", kind: "set", type: "ifname", purpose: "bridges of our networks" },
  { name: "internal", kind: "set", type: "ifname", purpose: "bridges without a way out" },
  { name: "apart", kind: "set", type: "ifname", purpose: "bridges whose sandboxes do not reach each other" },
  {
    name: "allowed",
    kind: "set",
    type: "ifname . ifname",
    purpose: "pairs that may talk: inside a network, from trusted interfaces",
  },
  {
    name: "arriving",
    kind: "map",
    type: "nf_proto . ifname : verdict",
    purpose: "what may come into a network, by family: its gateway mode",
  },
  ...([4, 6] as const).flatMap((family): readonly NamedSet[] => [
    {
      name: `own${family}`,
      kind: "set",
      type: `ifname . ipv${family}_addr`,
      flags: "interval",
      purpose: `what internal networks may send to, and trusted interfaces where a subnet is closed, IPv${family}`,
    },
    {
      name: `closed${family}`,
      kind: "set",
      type: `ipv${family}_addr`,
      flags: "interval",
      purpose: `subnets that nobody outside reaches by their addresses, IPv${family}`,
    },
    {
      name: `reachable${family}`,
      kind: "set",
      type: `ipv${family}_addr . inet_proto . inet_service`,
      flags: "interval",
      purpose: `published ports at sandboxes' own addresses, IPv${family}`,
    },
    {
      name: `masquerade${family}`,
      kind: "set",
      type: `ipv${family}_addr`,
      flags: "interval",
      purpose: `subnets that leave with the host's address, IPv${family}`,
    },
    {
      name: `source${family}`,
      kind: "map",
      type: `ipv${family}_addr : ipv${family}_addr`,
      flags: "interval",
      purpose: `subnets that leave with an address of their network's choice, IPv${family}`,
    },
  ]),
];

const internal = (network: FirewallNetwork): boolean => network.internal;
const open = (network: FirewallNetwork): boolean => !network.internal;
const inMode =
  (...modes: readonly string[]) =>
  (network: FirewallNetwork): boolean =>
    !network.internal && ([4, 6] as const).some((family) => modes.includes(modeOf(network, family)));
const leaves = (family: 4 | 6, chosen: boolean) => (network: FirewallNetwork) =>
  !network.internal &&
  network.masquerade &&
  modeOf(network, family).startsWith("nat") &&
  (network.source?.[family] !== undefined) === chosen;

export const chains: readonly Chain[] = [
  {
    name: "raw_prerouting",
    hook: "type filter hook prerouting priority raw; policy accept;",
    purpose: "before connection tracking: what has no business here",
    rules: [
      {
        match: "iifname @internal ip daddr != { 224.0.0.0/4, 255.255.255.255 } iifname . ip daddr != @own4",
        verdict: "counter drop",
        reason: "internal networks reach nothing, this host's other addresses included",
        concerns: internal,
      },
      {
        match: "iifname @internal ip6 daddr != { fe80::/10, ff00::/8 } iifname . ip6 daddr != @own6",
        verdict: "counter drop",
        reason: "internal networks reach nothing, this host's other addresses included (IPv6)",
        concerns: internal,
      },
      {
        match: "iifname != @bridges ip daddr @closed4 iifname . ip daddr != @own4 fib daddr type != local",
        verdict: "counter drop",
        reason: "nobody routes through this host to a sandbox's address (moby 49325)",
        concerns: (network) => isClosed(network, 4),
      },
      {
        match: "iifname != @bridges ip6 daddr @closed6 iifname . ip6 daddr != @own6 fib daddr type != local",
        verdict: "counter drop",
        reason: "nobody routes through this host to a sandbox's address, IPv6 (moby 49325)",
        concerns: (network) => isClosed(network, 6),
      },
    ],
  },
  {
    name: "translated",
    hook: "type filter hook prerouting priority dstnat + 2; policy accept;",
    purpose: "after published ports were looked up",
    rules: [
      {
        match: "iifname @apart ct status dnat meta mark 0",
        verdict: `meta mark set ${apartMark}`,
        reason: "with br_netfilter it goes from port to port, where what is not marked is dropped",
        concerns: (network) => !network.icc && !network.internal,
      },
    ],
  },
  {
    name: "forward",
    hook: "type filter hook forward priority filter; policy accept;",
    purpose: "traffic through this host",
    rules: [
      {
        match: "iifname != @bridges oifname != @bridges",
        verdict: "accept",
        reason: "transit traffic is not ours and passes untouched",
        concerns: () => false,
      },
      {
        match: "iifname . oifname @allowed",
        verdict: "accept",
        reason: "inside one network, or from an interface that the network trusts",
        concerns: (network) => network.icc || (network.trusted?.length ?? 0) > 0,
      },
      {
        match: "iifname @internal",
        verdict: "counter drop",
        reason: "internal networks reach nothing",
        concerns: internal,
      },
      {
        match: "oifname @internal",
        verdict: "counter drop",
        reason: "nothing reaches internal networks",
        concerns: internal,
      },
      {
        match: "oifname @bridges ct state established,related",
        verdict: "accept",
        reason: "answers to what a sandbox asked",
        concerns: open,
      },
      { match: "oifname @bridges", verdict: "jump published", reason: "published ports", concerns: open },
      {
        match: "iifname @bridges oifname @bridges",
        verdict: "counter drop",
        reason: "networks cannot reach each other; nor sandboxes of one whose option says so",
        concerns: open,
      },
      {
        match: "meta nfproto . oifname",
        verdict: "vmap @arriving",
        reason: "from outside: what the network's gateway mode says",
        concerns: open,
      },
    ],
  },
  {
    name: "published",
    purpose: "accepts what comes to a published port",
    rules: [
      {
        match: "ct status dnat",
        verdict: "accept",
        reason: "it was sent to a port of this host that leads here",
        concerns: open,
      },
      {
        match: "iifname != @bridges ip daddr . meta l4proto . th dport @reachable4",
        verdict: "accept",
        reason: "a published port at the sandbox's own address, IPv4",
        concerns: inMode("routed"),
      },
      {
        match: "iifname != @bridges ip6 daddr . meta l4proto . th dport @reachable6",
        verdict: "accept",
        reason: "a published port at the sandbox's own address, IPv6",
        concerns: inMode("routed"),
      },
    ],
  },
  {
    name: "mode_nat",
    purpose: "gateway mode nat, and families that a network has not",
    rules: [
      {
        match: "",
        verdict: "counter drop",
        reason: "nobody outside reaches a sandbox uninvited",
        concerns: inMode("nat"),
      },
    ],
  },
  {
    name: "mode_nat_unprotected",
    purpose: "gateway mode nat-unprotected",
    rules: [
      {
        match: "",
        verdict: "accept",
        reason: "the network's option lets everybody reach every port of its sandboxes",
        concerns: inMode("nat-unprotected"),
      },
    ],
  },
  {
    name: "mode_routed",
    purpose: "gateway mode routed",
    rules: [
      {
        match: "meta l4proto { icmp, ipv6-icmp }",
        verdict: "accept",
        reason: "routed networks answer pings and learn path MTUs",
        concerns: inMode("routed"),
      },
      {
        match: "",
        verdict: "counter drop",
        reason: "of routed networks only published ports are reached",
        concerns: inMode("routed"),
      },
    ],
  },
  {
    name: "postrouting",
    hook: "type nat hook postrouting priority srcnat; policy accept;",
    purpose: "the way out",
    rules: [
      {
        match: "oifname != @bridges",
        verdict: "snat ip to ip saddr map @source4",
        reason: "the way out with the address that the network chose, IPv4",
        concerns: leaves(4, true),
      },
      {
        match: "oifname != @bridges",
        verdict: "snat ip6 to ip6 saddr map @source6",
        reason: "the way out with the address that the network chose, IPv6",
        concerns: leaves(6, true),
      },
      {
        match: "ip saddr @masquerade4 oifname != @bridges",
        verdict: "masquerade",
        reason: "the way out with the host's address, IPv4",
        concerns: leaves(4, false),
      },
      {
        match: "ip6 saddr @masquerade6 oifname != @bridges",
        verdict: "masquerade",
        reason: "the way out with the host's address, IPv6",
        concerns: leaves(6, false),
      },
    ],
  },
];

export const ruleText = ({ match, verdict, reason }: Rule): string =>
  `${match === "" ? "" : `${match} `}${verdict} comment "${reason}"`;
