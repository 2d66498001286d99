import type { ObservedLink } from "../linux/kernel.ts";
import { hostNamespace, type NamespaceRef } from "../linux/plan.ts";
import { familyOf, type Ip } from "../net/ip.ts";
import type { Mac } from "../net/mac.ts";
import { addressOf } from "../net/prefix.ts";
import { idOfMark, isHere } from "./context.ts";
import type { EndpointRecord, NetworkRecord } from "./records.ts";
import { commandIn, Lost, placeOf, upLink, type Walk } from "./trace-walk.ts";

/** One hop inside a segment: from a bridge to whoever has the next address, on this host or another. */

export interface SegmentHop {
  readonly network: NetworkRecord;
  /** Namespace of the bridge. */
  readonly namespace: NamespaceRef;
  readonly bridge: ObservedLink;
  readonly next: Ip;
  /** Who asks for the neighbour, and by which device. */
  readonly asker: NamespaceRef;
  readonly device: string;
}

const ipWord = (ip: Ip): string => (familyOf(ip) === 6 ? "ip -6" : "ip");

export const traceSegment = async (walk: Walk, hop: SegmentHop): Promise<void> => {
  const { namespace, bridge, next, network } = hop;
  const record = walk.context.state
    .endpointsOf(network.id)
    .find(({ addresses }) => addresses.some((address) => addressOf(address) === next));
  const observed = await walk.observe(namespace);
  const vxlan = observed.links.find(({ kind, master }) => kind === "vxlan" && master === bridge.index);
  const mac = await neighborOf(walk, hop, record, vxlan);
  const behind = await walk.kernel.lookup(namespace, { kind: "port", bridge: bridge.name, mac }, walk.signal);
  const port = observed.links.find(({ name }) => name === behind?.device);
  if (port && port !== vxlan) await toPort(walk, hop, port, mac);
  else if (vxlan) await toHost(walk, hop, vxlan, mac, record);
  else await flooded(walk, hop, mac, record);
};

/** The MAC of the next hop: what the asker knows, or what it would be told. */
const neighborOf = async (
  walk: Walk,
  { network, namespace, next, asker, device }: SegmentHop,
  record: EndpointRecord | undefined,
  vxlan: ObservedLink | undefined,
): Promise<Mac> => {
  const where =
    asker === hostNamespace ? "host" : asker === namespace ? placeOf(namespace) : `container ${walk.sandbox.container}`;
  const command = commandIn(asker, `${ipWord(next)} neighbor show ${next} dev ${device}`);
  const known = await walk.kernel.lookup(asker, { kind: "neighbor", device, ip: next }, walk.signal);
  if (known?.mac !== undefined) {
    walk.hop({ where, what: `neighbour ${next} is at ${known.mac}`, command });
    return known.mac;
  }
  const isElsewhere = record?.sandbox && !isHere(walk.context, record);
  if (vxlan && (isElsewhere || !record)) {
    const answer = await walk.kernel.lookup(namespace, { kind: "neighbor", device: vxlan.name, ip: next }, walk.signal);
    if (answer?.mac === undefined) {
      const service = record
        ? `service ${record.name} has it, on node ${walk.context.nodeName(record.sandbox?.node ?? "")}`
        : `no service of network ${network.name} has it`;
      throw new Lost(
        `${vxlan.name} knows no neighbour ${next}, so nobody answers for it: ${service}`,
        commandIn(namespace, `${ipWord(next)} neighbor show dev ${vxlan.name}`),
      );
    }
    walk.hop({
      where: placeOf(namespace),
      what: `${vxlan.name} answers that ${next} is at ${answer.mac}`,
      command: commandIn(namespace, `${ipWord(next)} neighbor show ${next} dev ${vxlan.name}`),
    });
    return answer.mac;
  }
  if (record?.mac === undefined) throw new Lost(`nobody in network ${network.name} has the address ${next}`);
  if (!record.sandbox) {
    throw new Lost(
      `service ${record.name} has the address ${next} and is attached to no container`,
      `dnet service attach CONTAINER ${record.name}.${network.name}`,
    );
  }
  walk.hop({
    where,
    what: `neighbour ${next} is not known yet; service ${record.name} will answer with ${record.mac}`,
    command,
  });
  return record.mac;
};

/** Somebody on this host. */
const toPort = async (
  walk: Walk,
  { namespace, bridge, next }: SegmentHop,
  port: ObservedLink,
  mac: Mac,
): Promise<void> => {
  const where = placeOf(namespace);
  walk.hop({
    where,
    what: `bridge ${bridge.name} knows ${mac} behind ${port.name}`,
    command: commandIn(namespace, `bridge fdb get ${mac} br ${bridge.name}`),
  });
  upLink({ links: [port], routes: [] }, port.name, where);
  const endpoint = walk.context.state.endpoints.get(idOfMark(walk.context, port.alias) ?? "");
  if (!endpoint?.sandbox) {
    walk.hop({ where, what: `${port.name} is no endpoint of dnet: what comes after is out of sight` });
    return;
  }
  await arrive(walk, endpoint, next);
};

/** The end of the way: the sandbox that has the address. */
const arrive = async (walk: Walk, endpoint: EndpointRecord, next: Ip): Promise<void> => {
  const { context } = walk;
  const sandbox = context.state.sandboxes.get(endpoint.sandbox?.id ?? "");
  if (!sandbox) throw new Lost(`service ${endpoint.name} is attached to a container that is not known`);
  const key = `${context.namespaceDir}/${sandbox.id.slice(0, 12)}`;
  const where = `container ${sandbox.container}`;
  const device = endpoint.sandbox?.interface ?? "";
  const link = upLink(await walk.observe(key), device, where);
  if (!link.addresses.some((address) => addressOf(address) === next)) {
    throw new Lost(`${device} of ${where} has not the address ${next}`, "restart dnet: it restores what is missing");
  }
  const ends = next === walk.destination;
  walk.hop({
    where,
    what: `${device} has ${next}: ${ends ? "the packet has arrived" : "it must forward the packet, which dnet does not ask for"}`,
    command: commandIn(key, `ip address show dev ${device}`),
  });
};

/** Somebody on another host. */
const toHost = async (
  walk: Walk,
  { namespace, network, next }: SegmentHop,
  vxlan: ObservedLink,
  mac: Mac,
  record: EndpointRecord | undefined,
): Promise<void> => {
  const { context, kernel } = walk;
  const where = placeOf(namespace);
  const command = commandIn(namespace, `bridge fdb show dev ${vxlan.name} | grep ${mac}`);
  upLink({ links: [vxlan], routes: [] }, vxlan.name, where);
  const entry = await kernel.lookup(namespace, { kind: "fdb", device: vxlan.name, mac }, walk.signal);
  if (entry?.destination === undefined) {
    throw new Lost(
      `${vxlan.name} does not know on which host ${mac} is`,
      record?.sandbox ? "restart dnet: it restores what is missing" : `no container has ${next}`,
    );
  }
  const { destination } = entry;
  walk.hop({
    where,
    what: `${vxlan.name} (VNI ${vxlan.vxlan?.vni ?? "?"}) sends frames for ${mac} to host ${destination}`,
    command,
  });
  const route = await kernel.lookup(hostNamespace, { kind: "route", to: destination }, walk.signal);
  if (!route?.device) throw new Lost(`this host has no route to host ${destination}`);
  walk.hop({
    where: "host",
    what: `UDP to ${destination} port ${vxlan.vxlan?.port ?? "?"} by ${route.device}${route.via === undefined ? "" : ` to ${route.via}`}, from ${vxlan.vxlan?.local ?? route.source ?? "?"}`,
    command: `ip route get ${destination}`,
  });
  upLink(await walk.observe(hostNamespace), route.device, "host");
  if (!record) throw new Lost(`no service of network ${network.name} has ${next}: the entry is stale`);
  const claim = record.sandbox;
  if (!claim) throw new Lost(`service ${record.name} is attached to no container any more: the entry is stale`);
  if (claim.vtep !== undefined && claim.vtep !== destination) {
    throw new Lost(
      `the entry leads to ${destination}, but service ${record.name} is on ${claim.vtep}`,
      "restart dnet: it restores what is missing",
    );
  }
  walk.hop({
    where: `node ${context.nodeName(claim.node)}`,
    what: `container ${claim.container} has ${next} (service ${record.name}): trace back from there for the answer's way`,
  });
};

/** A bridge sends what it does not know to all ports. */
const flooded = async (
  walk: Walk,
  { namespace, bridge, next }: SegmentHop,
  mac: Mac,
  record: EndpointRecord | undefined,
): Promise<void> => {
  const where = placeOf(namespace);
  walk.hop({
    where,
    what: `bridge ${bridge.name} has not learned yet where ${mac} is: it asks all ports`,
    command: commandIn(namespace, `bridge fdb show br ${bridge.name}`),
  });
  if (!record) throw new Lost(`nobody on bridge ${bridge.name} has ${mac}`);
  await arrive(walk, record, next);
};
