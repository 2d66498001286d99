import { internal } from "../../errors.ts";
import { hostNamespace, type NamespaceRef } from "../../linux/plan.ts";
import type { Ip } from "../../net/ip.ts";
import { prefixContains, prefixFamily } from "../../net/prefix.ts";
import type { DriverEndpoint, DriverHost, DriverNetwork, Subnet } from "../driver.ts";

/** Where on a host an overlay network lives, and what its objects are called. */

/** One VXLAN segment: a bridge and the VXLAN device that is its port to the other hosts. */
export interface Segment {
  readonly vni: number;
  readonly bridge: string;
  readonly vxlan: string;
  readonly subnets: readonly Subnet[];
}

export interface Layout {
  readonly namespace: NamespaceRef;
  readonly segments: readonly Segment[];
}

/** The first digits of a network's id, as the original's names of namespaces and bridges have them. */
const short = (network: Pick<DriverNetwork, "id">, length: number): string => network.id.slice(0, length);

export const namespacePath = (network: Pick<DriverNetwork, "id">, host: DriverHost): string =>
  `${host.namespaceDir}/1-${short(network, 10)}`;

/**
 * Each subnet is a segment with the VNI of its own. A network with both families is one segment, with the VNI of its first
 * subnet: an endpoint has an address of each family on one interface.
 * @throws NetworkError `no-segment` where the controller gave a subnet no VNI
 */
export const layoutOf = (network: DriverNetwork, host: DriverHost): Layout => {
  const hostMode = host.overlayHostMode === true;
  const both = new Set(network.subnets.map(({ pool }) => prefixFamily(pool))).size > 1;
  const groups = both ? [network.subnets] : network.subnets.map((subnet) => [subnet]);
  const segments = groups.map((subnets, n): Segment => {
    const vni = subnets[0]?.vni;
    if (vni === undefined) throw internal("no-segment", `network ${network.name} has no VNI`);
    const own = `${vni.toString(16).padStart(6, "0")}-${short(network, 5)}`;
    return {
      vni,
      subnets,
      bridge: hostMode ? `ov-${own}` : `br${n}`,
      vxlan: hostMode ? `vx-${own}` : `vxlan${n + 1}`,
    };
  });
  return { namespace: hostMode ? hostNamespace : namespacePath(network, host), segments };
};

/** The segment that an address belongs to. */
export const segmentOf = (layout: Layout, ip: Ip): Segment | undefined =>
  layout.segments.find(({ subnets }) => subnets.some(({ pool }) => prefixContains(pool, ip)));

/** The end of an endpoint's veth pair that is a port of the bridge. */
export const portName = (endpoint: Pick<DriverEndpoint, "id">): string => `veth${endpoint.id.slice(0, 11)}`;
