import { hostNamespace, type Operation } from "../../linux/plan.ts";
import { familyOf, type Ip } from "../../net/ip.ts";
import type { DriverHost, DriverNetwork, DriverTable } from "../driver.ts";
import { type Layout, layoutOf } from "./layout.ts";
import { vxlanPort } from "./vxlan-port.ts";

/**
 * VXLAN has no notion of a sender that may: whoever reaches the port can inject frames. A table of its own in the host's
 * namespace lets packets with a network's VNI in only from hosts that have the network. It accepts nothing: what it lets
 * pass still meets every other rule of the host.
 */

export const filterTable = (network: Pick<DriverNetwork, "id">): string => `dnet_overlay_${network.id.slice(0, 10)}`;

/** The 24 bits of the VNI: after the UDP header (8 bytes) and VXLAN's flags (4 bytes). */
const vniField = "@th,96,24";

const admission = ({ segments }: Layout): readonly string[] =>
  segments.flatMap(({ vni }) => [
    `udp dport ${vxlanPort} ${vniField} ${vni} ip saddr != @hosts4 drop`,
    `udp dport ${vxlanPort} ${vniField} ${vni} ip6 saddr != @hosts6 drop`,
  ]);

/** In host mode the bridges are the host's: it must not route into them or out of them. */
const isolation = ({ segments }: Layout): readonly string[] => {
  const bridges = `{ ${segments.map(({ bridge }) => `"${bridge}"`).join(", ")} }`;
  return [`iifname ${bridges} oifname ${bridges} accept`, `iifname ${bridges} drop`, `oifname ${bridges} drop`];
};

/** Makes a chain where there is none, and replaces its rules. */
const chain = (
  table: string,
  name: string,
  hook: string,
  rules: readonly string[],
): string => `add chain inet ${table} ${name} { ${hook}; policy accept; }
flush chain inet ${table} ${name}
${rules.map((rule) => `add rule inet ${table} ${name} ${rule}\n`).join("")}`;

const operation = (script: string): Operation => ({ op: "nft.apply", namespace: hostNamespace, script });

const tableScript = (network: DriverNetwork, host: DriverHost): string => {
  const table = filterTable(network);
  const layout = layoutOf(network, host);
  const forward =
    layout.namespace === hostNamespace
      ? chain(table, "forward", "type filter hook forward priority filter", isolation(layout))
      : "";
  return `add table inet ${table} { comment "dnet: who may send into overlay network ${network.id.slice(0, 12)}"; }
add set inet ${table} hosts4 { type ipv4_addr; }
add set inet ${table} hosts6 { type ipv6_addr; }
${chain(table, "prerouting", "type filter hook prerouting priority raw", admission(layout))}${forward}`;
};

/** The table, in force before the VXLAN device is; applied again, it keeps the hosts that it knows. */
export const filterCreate = (network: DriverNetwork, host: DriverHost): Operation =>
  operation(tableScript(network, host));

const hostsScript = (network: DriverNetwork, vteps: readonly Ip[]): string => {
  const table = filterTable(network);
  const set = (family: 4 | 6): string => {
    const members = vteps.filter((ip) => familyOf(ip) === family);
    const add = members.length > 0 ? `add element inet ${table} hosts${family} { ${members.join(", ")} }\n` : "";
    return `flush set inet ${table} hosts${family}\n${add}`;
  };
  return set(4) + set(6);
};

/** Exactly these hosts may send. */
export const filterHosts = (network: DriverNetwork, vteps: readonly Ip[]): Operation =>
  operation(hostsScript(network, vteps));

/** Hosts whose packets can come in: none from itself, and an underlay has one address family. */
export const othersOf = (host: DriverHost, vteps: readonly Ip[]): readonly Ip[] =>
  vteps.filter((vtep) => vtep !== host.vtep && familyOf(vtep) === familyOf(host.vtep));

/** The table as it should be, for whoever keeps it. */
export const filterTableOf = (
  network: DriverNetwork,
  host: DriverHost,
  vteps: readonly Ip[],
): DriverTable | undefined => {
  if (host.firewall === false) return undefined;
  const table = `inet ${filterTable(network)}`;
  const anew = `add table ${table}\ndelete table ${table}\n`;
  return { table, ruleset: anew + tableScript(network, host) + hostsScript(network, othersOf(host, vteps)) };
};

export const filterRemove = (network: Pick<DriverNetwork, "id">): Operation => {
  const table = filterTable(network);
  return operation(`add table inet ${table}\ndelete table inet ${table}\n`);
};
