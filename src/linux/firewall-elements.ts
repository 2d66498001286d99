import { type Prefix, prefixFamily } from "../net/prefix.ts";
import type { FirewallNetwork, GatewayMode } from "./firewall.ts";

/** What a network puts into the sets of the host's table. */

export interface Element {
  readonly set: string;
  readonly key: string;
  /** The value of a map's element. */
  readonly value?: string;
}

/** An interface name as nft reads it, and nothing but one. @throws RangeError */
export const quoteInterface = (name: string): string => {
  if (!/^[A-Za-z0-9_.@-]{1,15}$/.test(name)) throw new RangeError(`${JSON.stringify(name)} is no interface name`);
  return `"${name}"`;
};

/** The gateway mode of a family, `nat` where nothing is said. */
export const modeOf = (network: FirewallNetwork, family: 4 | 6): GatewayMode => network.gatewayModes?.[family] ?? "nat";

const chainOfMode: Readonly<Record<GatewayMode, string>> = {
  nat: "mode_nat",
  "nat-unprotected": "mode_nat_unprotected",
  routed: "mode_routed",
  // Only internal networks are isolated, and they are dropped before.
  isolated: "mode_nat",
};

export const elementsOf = (network: FirewallNetwork): readonly Element[] => {
  const bridge = quoteInterface(network.bridge);
  const trusted = network.internal ? [] : (network.trusted ?? []).map(quoteInterface);
  const result: Element[] = [{ set: "bridges", key: bridge }];
  if (network.internal) result.push({ set: "internal", key: bridge });
  if (network.icc) result.push({ set: "allowed", key: `${bridge} . ${bridge}` });
  else result.push({ set: "apart", key: bridge });
  for (const from of trusted) result.push({ set: "allowed", key: `${from} . ${bridge}` });
  if (!network.internal) {
    for (const family of [4, 6] as const) {
      const value = `goto ${chainOfMode[modeOf(network, family)]}`;
      result.push({ set: "arriving", key: `ipv${family} . ${bridge}`, value });
    }
  }
  for (const subnet of network.subnets) {
    const family = prefixFamily(subnet);
    for (const from of network.internal ? [bridge] : trusted) {
      result.push({ set: `own${family}`, key: `${from} . ${subnet}` });
    }
    if (isClosed(network, family)) result.push({ set: `closed${family}`, key: subnet });
    result.push(...wayOut(network, subnet));
  }
  return result;
};

/** True where nothing from outside has a sandbox's address as its destination: answers come to the host's, and are translated. */
export const isClosed = (network: FirewallNetwork, family: 4 | 6): boolean =>
  network.internal || (modeOf(network, family) === "nat" && network.masquerade);

const wayOut = (network: FirewallNetwork, subnet: Prefix): readonly Element[] => {
  const family = prefixFamily(subnet);
  if (network.internal || !network.masquerade || !modeOf(network, family).startsWith("nat")) return [];
  const source = network.source?.[family];
  if (source === undefined) return [{ set: `masquerade${family}`, key: subnet }];
  return [{ set: `source${family}`, key: subnet, value: source }];
};
