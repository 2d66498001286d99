import { type Prefix, prefixFamily } from "../net/prefix.ts";

/**
 * The host's ruleset as text for `nft -f -`: one table of our own, sets instead of rules per network, so that its cost does
 * not grow with the number of networks. Every change is one atomic batch; the whole can be regenerated from desired state.
 */

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
}

const quote = (name: string): string => {
  if (!/^[A-Za-z0-9_-]{1,15}$/.test(name)) throw new RangeError(`${JSON.stringify(name)} is no interface name`);
  return `"${name}"`;
};

interface Element {
  readonly set: string;
  readonly value: string;
}

const elements = (network: FirewallNetwork): readonly Element[] => {
  const bridge = quote(network.bridge);
  const result: Element[] = [{ set: "bridges", value: bridge }];
  if (network.icc) result.push({ set: "within", value: `${bridge} . ${bridge}` });
  if (network.internal) result.push({ set: "internal", value: bridge });
  if (network.masquerade && !network.internal) {
    for (const subnet of network.subnets) {
      result.push({ set: prefixFamily(subnet) === 4 ? "masquerade4" : "masquerade6", value: subnet });
    }
  }
  return result;
};

const change = (verb: "add" | "delete", table: string, network: FirewallNetwork): string =>
  elements(network)
    .map(({ set, value }) => `${verb} element inet ${table} ${set} { ${value} }\n`)
    .join("");

/** The batch that brings a network under the ruleset. */
export const firewallAdd = (table: string, network: FirewallNetwork): string => change("add", table, network);

/** The batch that takes a network out of it. */
export const firewallRemove = (table: string, network: FirewallNetwork): string => change("delete", table, network);

/** The batch that replaces the whole table by one for these networks, atomically. */
export const firewallRuleset = (table: string, networks: readonly FirewallNetwork[]): string => `add table inet ${table}
delete table inet ${table}
table inet ${table} {
  comment "dnet: bridge networks"
  set bridges { type ifname; comment "bridges of our networks"; }
  set within { type ifname . ifname; comment "traffic inside one network"; }
  set internal { type ifname; comment "bridges without a way out"; }
  set masquerade4 { type ipv4_addr; flags interval; comment "subnets that leave with the host's address"; }
  set masquerade6 { type ipv6_addr; flags interval; comment "the same for IPv6"; }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname . oifname @within accept comment "inside one network"
    iifname @internal drop comment "internal networks reach nothing"
    oifname @internal drop comment "nothing reaches internal networks"
    oifname @bridges ct status dnat accept comment "published ports"
    iifname @bridges oifname @bridges drop comment "networks cannot reach each other"
    oifname @bridges ct state established,related accept comment "answers to what a sandbox asked"
    oifname @bridges drop comment "nobody outside reaches a sandbox uninvited"
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr @masquerade4 oifname != @bridges masquerade comment "the way out, IPv4"
    ip6 saddr @masquerade6 oifname != @bridges masquerade comment "the way out, IPv6"
  }
}
${networks.map((network) => firewallAdd(table, network)).join("")}`;

/** The batch that removes the table, also where it is not there. */
export const firewallClear = (table: string): string => `add table inet ${table}\ndelete table inet ${table}\n`;
