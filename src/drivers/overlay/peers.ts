import { type Operation, type Plan, plan } from "../../linux/plan.ts";
import type { Ip } from "../../net/ip.ts";
import { macFromBytes } from "../../net/mac.ts";
import { addressOf } from "../../net/prefix.ts";
import type { DriverHost, DriverNetwork, DriverPeer } from "../driver.ts";
import { booleanOption, option } from "../options.ts";
import { layoutOf, segmentOf } from "./layout.ts";
import { filterHosts, othersOf } from "./member-filter.ts";

/** Endpoints on other hosts: where their frames go (forwarding entry) and who answers for them (neighbour entries). */

/** Encapsulated for itself, a host's frames would go round for ever; and an underlay has one address family. */
const reachable = (host: DriverHost, vtep: Ip): boolean => othersOf(host, [vtep]).length > 0;

const entries = (
  verb: "add" | "delete",
  network: DriverNetwork,
  host: DriverHost,
  peer: DriverPeer,
): readonly Operation[] => {
  if (!reachable(host, peer.vtep)) return [];
  const layout = layoutOf(network, host);
  const { namespace } = layout;
  const placed = peer.addresses.flatMap((address) => {
    const ip = addressOf(address);
    const segment = segmentOf(layout, ip);
    return segment ? [{ ip, device: segment.vxlan }] : [];
  });
  const { mac, vtep: destination } = peer;
  return [...new Set(placed.map(({ device }) => device))]
    .map((device): Operation => ({ op: `fdb.${verb}`, namespace, device, mac, destination }))
    .concat(placed.map(({ ip, device }) => ({ op: `neighbor.${verb}`, namespace, device, ip, mac })));
};

export const peerAdd = (network: DriverNetwork, host: DriverHost, peer: DriverPeer): Plan =>
  plan(...entries("add", network, host, peer));

export const peerRemove = (network: DriverNetwork, host: DriverHost, peer: DriverPeer): Plan =>
  plan(...entries("delete", network, host, peer));

export const peerPlace = (network: DriverNetwork, host: DriverHost) => {
  const { namespace, segments } = layoutOf(network, host);
  return { namespace, devices: segments.map(({ vxlan }) => vxlan) };
};

/** The address that a VXLAN device sends to what it has no other entry for: broadcast and multicast, to every host. */
const everybody = macFromBytes([0, 0, 0, 0, 0, 0]);

export const peerHosts = (
  network: DriverNetwork,
  host: DriverHost,
  vteps: readonly Ip[],
  gone: readonly Ip[],
): Plan => {
  const others = othersOf(host, vteps);
  const { namespace, segments } = layoutOf(network, host);
  const flood = (op: "fdb.add" | "fdb.delete", hosts: readonly Ip[]): readonly Operation[] =>
    segments.flatMap(({ vxlan: device }) =>
      hosts.map((destination): Operation => ({ op, namespace, device, mac: everybody, destination })),
    );
  return plan(
    ...(host.firewall === false ? [] : [filterHosts(network, others)]),
    ...(booleanOption(network.options, option.multicast, false) ? flood("fdb.add", others) : []),
    ...flood(
      "fdb.delete",
      gone.filter((vtep) => reachable(host, vtep) && !others.includes(vtep)),
    ),
  );
};
