import { badRequest, shown } from "../errors.ts";
import type { Observed, ObservedLink } from "../linux/kernel.ts";
import { ping } from "../linux/ping.ts";
import { hostNamespace, type LinkSpec, type NamespaceRef } from "../linux/plan.ts";
import { type Ip, tryParseIp } from "../net/ip.ts";
import { addressOf, prefixContains, prefixOf } from "../net/prefix.ts";
import { type Context, driverNetwork, driverOf, idOfMark, markOf, namespaceOf, requireSandbox } from "./context.ts";
import type { EndpointRecord, NetworkRecord, SandboxRecord } from "./records.ts";
import type { Hop, Loss, Trace } from "./trace-model.ts";
import { traceSegment } from "./trace-segment.ts";
import { commandIn, Lost, placeOf, upLink, type Walk } from "./trace-walk.ts";
import { attachmentOf } from "./wiring.ts";

/** Follows a packet from a sandbox hop by hop, by what the kernel says, and says where it would be lost and why. */

/** @throws NetworkError (bad request) where the destination is neither an address nor a name that the sandbox's networks know */
export const trace = async (
  context: Context,
  sandboxId: string,
  to: string,
  options: { readonly ping?: boolean; readonly signal?: AbortSignal } = {},
): Promise<Trace> => {
  const sandbox = requireSandbox(context, sandboxId);
  const destination = destinationOf(context, sandbox, to);
  const hops: Hop[] = [];
  const { kernel } = context;
  const walk: Walk = {
    context,
    kernel,
    destination,
    sandbox,
    hop: (hop) => void hops.push(hop),
    observe: async (namespace) => {
      const observed = await kernel.observe(namespace, options.signal);
      if (!observed) throw new Lost(`there is no namespace ${namespace}`, "restart dnet: it restores what is missing");
      return observed;
    },
    ...(options.signal && { signal: options.signal }),
  };
  let lost: Loss | undefined;
  try {
    await fromSandbox(walk);
  } catch (error) {
    if (!(error instanceof Lost)) throw error;
    lost = error.loss;
  }
  const echo = options.ping ? await ping(namespaceOf(context, sandbox), destination, options.signal) : undefined;
  return { destination, hops, ...(lost && { lost }), ...(echo && { ping: echo }) };
};

/** An address, or a service, an alias or a container in one of the sandbox's networks: `b`, `b.multihost`. */
const destinationOf = (context: Context, sandbox: SandboxRecord, text: string): Ip => {
  const ip = tryParseIp(text);
  if (ip !== undefined) return ip;
  for (const own of context.state.endpointsIn(sandbox.id)) {
    const network = context.state.networks.get(own.network)?.name;
    const name = network !== undefined && text.endsWith(`.${network}`) ? text.slice(0, -network.length - 1) : text;
    const found = context.state
      .endpointsOf(own.network)
      .find((other) => other.name === name || other.aliases.includes(name) || other.sandbox?.container === name);
    const address = found?.addresses[0];
    if (address !== undefined) return addressOf(address);
  }
  throw badRequest(
    "unknown-destination",
    `invalid destination: ${shown(text)} is no address and no name in a network of container ${sandbox.container}`,
  );
};

const fromSandbox = async (walk: Walk): Promise<void> => {
  const { context, sandbox, destination } = walk;
  const namespace = namespaceOf(context, sandbox);
  const where = `container ${sandbox.container}`;
  const inside = await walk.observe(namespace);
  const command = commandIn(namespace, `ip route get ${destination}`);
  const route = await walk.kernel.lookup(namespace, { kind: "route", to: destination }, walk.signal);
  if (!route?.device) {
    throw new Lost(
      `container ${sandbox.container} has no route to ${destination}`,
      "attach it to the destination's network",
    );
  }
  if (route.own) {
    walk.hop({ where, what: `${destination} is the container's own address`, command });
    return;
  }
  const { device, via, source } = route;
  const through = via === undefined ? "it is on the link" : `the next hop is ${via}`;
  walk.hop({
    where,
    what: `route by ${device}: ${through}${source === undefined ? "" : `, sent from ${source}`}`,
    command,
  });
  refuseDetour(walk, inside, device, where);
  const link = upLink(inside, device, where);
  const endpoint = context.state.endpointsIn(sandbox.id).find((own) => own.sandbox?.interface === device);
  const network = endpoint && context.state.networks.get(endpoint.network);
  if (!endpoint || !network) {
    walk.hop({ where, what: `${device} belongs to no network of dnet: the way ends here` });
    return;
  }
  const port = portOf(context, endpoint, sandbox);
  if (!port?.link.master) {
    walk.hop({ where, what: `${device} of network ${network.name} (driver ${network.driver}) leads out of the host` });
    return;
  }
  await throughPort(walk, {
    network,
    endpoint,
    link,
    port: port.link,
    namespace: port.namespace,
    next: via ?? destination,
  });
};

/** A packet for a network that the sandbox is in, and that leaves by another interface, does not get there. */
const refuseDetour = (
  { context, sandbox, destination }: Walk,
  inside: Observed,
  device: string,
  where: string,
): void => {
  const own = context.state
    .endpointsIn(sandbox.id)
    .find(({ addresses }) => addresses.some((address) => prefixContains(prefixOf(address), destination)));
  const right = own?.sandbox?.interface;
  if (right === undefined || right === device) return;
  upLink(inside, right, where);
  throw new Lost(
    `${destination} is behind ${right} of ${where}, but the route leads to ${device}`,
    "restart dnet: it restores what is missing",
  );
};

/** The end of the sandbox's interface that is a bridge's port, as its driver planned it. */
const portOf = (
  context: Context,
  endpoint: EndpointRecord,
  sandbox: SandboxRecord,
): { readonly namespace: NamespaceRef; readonly link: LinkSpec } | undefined => {
  for (const operation of attachmentOf(context, endpoint, sandbox).attach) {
    if (operation.op === "link.add") return { namespace: operation.namespace, link: operation.link };
  }
  return undefined;
};

interface Port {
  readonly network: NetworkRecord;
  readonly endpoint: EndpointRecord;
  /** The interface in the sandbox, and its other end as planned. */
  readonly link: ObservedLink;
  readonly port: LinkSpec;
  readonly namespace: NamespaceRef;
  readonly next: Ip;
}

const throughPort = async (walk: Walk, { network, endpoint, link, port, namespace, next }: Port): Promise<void> => {
  const where = placeOf(namespace);
  const observed = await walk.observe(namespace);
  const end = upLink(observed, port.name, where);
  if (end.alias !== markOf(walk.context, endpoint.id)) throw new Lost(`link ${port.name} is not the one dnet made`);
  const bridge = upLink(observed, port.master ?? "", where);
  if (end.master !== bridge.index) {
    throw new Lost(
      `link ${end.name} is no port of bridge ${bridge.name}`,
      `ip link set ${end.name} master ${bridge.name}`,
    );
  }
  walk.hop({
    where,
    what: `veth ${link.name} comes out as ${end.name}, a port of bridge ${bridge.name} (network ${network.name}, MTU ${link.mtu})`,
    command: commandIn(namespace, `ip -d link show dev ${end.name}`),
  });
  if (bridge.addresses.some((address) => addressOf(address) === next)) {
    await routed(walk, network, namespace, bridge, next);
  } else {
    await traceSegment(walk, {
      network,
      namespace,
      bridge,
      next,
      device: link.name,
      asker: namespaceOf(walk.context, walk.sandbox),
    });
  }
};

/** The bridge's own address is the next hop: its namespace routes. */
const routed = async (
  walk: Walk,
  network: NetworkRecord,
  namespace: NamespaceRef,
  bridge: ObservedLink,
  gateway: Ip,
): Promise<void> => {
  const { context, destination } = walk;
  const where = placeOf(namespace);
  const route = await walk.kernel.lookup(namespace, { kind: "route", to: destination }, walk.signal);
  if (!route?.device) throw new Lost(`${where} has no route to ${destination}`);
  const command = commandIn(namespace, `ip route get ${destination}`);
  if (route.own) {
    walk.hop({ where, what: `${destination} is an address of ${where} itself`, command });
    return;
  }
  walk.hop({
    where,
    what: `gateway ${gateway} on ${bridge.name} routes on by ${route.device}${route.via === undefined ? "" : ` to ${route.via}`}`,
    command,
  });
  const observed = await walk.observe(namespace);
  const out = upLink(observed, route.device, where);
  const part =
    namespace === hostNamespace && context.firewallTable !== undefined ? firewallOf(context, network) : undefined;
  if (part?.internal) throw new Lost(`network ${network.name} is internal: the packet filter lets nothing out of it`);
  const other = networkOf(context, out);
  if (other && other.id !== network.id && part) {
    throw new Lost(
      `network ${network.name} and network ${other.name} are kept apart by the packet filter`,
      `attach container ${walk.sandbox.container} to network ${other.name}`,
    );
  }
  if (out.kind === "bridge" && other) {
    await traceSegment(walk, {
      network: other,
      namespace,
      bridge: out,
      next: route.via ?? destination,
      device: out.name,
      asker: namespace,
    });
    return;
  }
  walk.hop({
    where,
    what: `leaves by ${out.name}${part?.masquerade ? ", with the host's address as its sender" : ""}: what comes after is out of sight`,
  });
};

const firewallOf = (context: Context, network: NetworkRecord) =>
  driverOf(context, network.driver).firewall(driverNetwork(context, network));

/** The network that a link carries the mark of. */
const networkOf = (context: Context, link: ObservedLink): NetworkRecord | undefined =>
  context.state.networks.get(idOfMark(context, link.alias) ?? "");
