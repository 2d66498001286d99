import type { HostProbe } from "../../linux/host-probe.ts";
import type { Kernel, Observed, ObservedLink } from "../../linux/kernel.ts";
import { hostNamespace, type LinkSpec, type NamespaceRef, type Operation, type Plan } from "../../linux/plan.ts";

/** An operation of a plan whose result is not there, and what is there instead. */
export interface Unmet {
  readonly operation: Operation;
  readonly found: string;
}

/** Questions to the kernel that are under way at once. */
const atOnce = 64;

/**
 * Compares what a plan would make with what the kernel has, without changing anything: the same plans that start-up applies say
 * what should be. Of several operations on what is missing altogether, the one that makes it is told.
 */
export const unmet = async (
  { kernel, probe }: { readonly kernel: Kernel; readonly probe: HostProbe },
  work: Plan,
  signal?: AbortSignal,
): Promise<readonly Unmet[]> => {
  const seen = new Map<NamespaceRef, Promise<Observed | undefined>>();
  const observe = (namespace: NamespaceRef): Promise<Observed | undefined> => {
    const known = seen.get(namespace) ?? kernel.observe(namespace, signal);
    seen.set(namespace, known);
    return known;
  };
  const look = async (operation: Operation): Promise<string | undefined> => {
    switch (operation.op) {
      case "namespace.add":
        return (await observe(operation.path)) ? undefined : "there is no such namespace";
      case "link.add":
        return lookAtLink(observe, operation.namespace, operation.link);
      case "link.set":
        return lookAtSettings(await observe(operation.namespace), operation);
      case "address.add": {
        const link = linkNamed(await observe(operation.namespace), operation.device);
        return link && !link.addresses.includes(operation.address)
          ? `${operation.device} has ${link.addresses.join(" and ") || "no address"}`
          : undefined;
      }
      case "route.add":
        return lookAtRoute(await observe(operation.namespace), operation);
      case "neighbor.add":
      case "fdb.add":
        return (
          linkNamed(await observe(operation.namespace), operation.device) && lookAtEntry(kernel, operation, signal)
        );
      case "sysctl.set":
        return operation.namespace === hostNamespace ? lookAtSysctl(probe, operation) : undefined;
      default:
        return undefined;
    }
  };
  const result: Unmet[] = [];
  for (let n = 0; n < work.length; n += atOnce) {
    signal?.throwIfAborted();
    const part = work.slice(n, n + atOnce);
    const found = await Promise.all(part.map(look));
    result.push(...part.flatMap((operation, at) => (found[at] ? [{ operation, found: found[at] }] : [])));
  }
  return result;
};

type Observe = (namespace: NamespaceRef) => Promise<Observed | undefined>;

const linkNamed = (observed: Observed | undefined, name: string): ObservedLink | undefined =>
  observed?.links.find((link) => link.name === name);

const lookAtLink = async (observe: Observe, namespace: NamespaceRef, spec: LinkSpec): Promise<string | undefined> => {
  const observed = await observe(namespace);
  // Without the namespace its own operation says so.
  if (!observed) return undefined;
  const link = linkNamed(observed, spec.name);
  if (!link) return `there is no link ${spec.name}`;
  if (link.kind !== spec.kind) return `${spec.name} is ${link.kind ?? "no virtual device"}`;
  if (link.alias !== spec.alias)
    return `${spec.name} ${link.alias === undefined ? "has no mark" : `is marked ${link.alias}`}`;
  const master = observed.links.find(({ index }) => index === link.master)?.name;
  if (spec.master !== undefined && master !== spec.master) return `${spec.name} is a port of ${master ?? "no bridge"}`;
  if (spec.mtu !== undefined && link.mtu !== spec.mtu)
    return `${spec.name} has an MTU of ${link.mtu} and not ${spec.mtu}`;
  if (spec.mac !== undefined && link.mac !== spec.mac)
    return `${spec.name} has the MAC address ${link.mac} and not ${spec.mac}`;
  if (spec.up === true && !link.up) return `${spec.name} is down`;
  if (spec.kind === "veth") return lookAtPeer(await observe(spec.peer.namespace), spec.peer);
  if (spec.kind === "vxlan") return lookAtVxlan(link, spec);
  return undefined;
};

const lookAtPeer = (
  observed: Observed | undefined,
  { name, mac, mtu }: Extract<LinkSpec, { kind: "veth" }>["peer"],
): string | undefined => {
  if (!observed) return undefined;
  const link = linkNamed(observed, name);
  if (!link) return `there is no interface ${name}`;
  if (mac !== undefined && link.mac !== mac) return `${name} has the MAC address ${link.mac} and not ${mac}`;
  if (mtu !== undefined && link.mtu !== mtu) return `${name} has an MTU of ${link.mtu} and not ${mtu}`;
  return undefined;
};

const lookAtVxlan = ({ name, vxlan }: ObservedLink, spec: Extract<LinkSpec, { kind: "vxlan" }>): string | undefined => {
  if (!vxlan) return undefined;
  if (vxlan.vni !== spec.vni) return `${name} has VNI ${vxlan.vni}`;
  if (vxlan.port !== spec.port) return `${name} uses port ${vxlan.port}`;
  if (vxlan.local !== spec.local) return `${name} sends from ${vxlan.local ?? "any address"} and not ${spec.local}`;
  return undefined;
};

const lookAtSettings = (
  observed: Observed | undefined,
  { name, set }: Extract<Operation, { op: "link.set" }>,
): string | undefined => {
  const link = linkNamed(observed, set.name ?? name);
  if (!link) return undefined;
  if (set.up === true && !link.up) return `${name} is down`;
  if (set.mac !== undefined && link.mac !== set.mac)
    return `${name} has the MAC address ${link.mac} and not ${set.mac}`;
  if (set.mtu !== undefined && link.mtu !== set.mtu) return `${name} has an MTU of ${link.mtu} and not ${set.mtu}`;
  return undefined;
};

const lookAtRoute = (
  observed: Observed | undefined,
  { route }: Extract<Operation, { op: "route.add" }>,
): string | undefined => {
  if (!observed || (route.device !== undefined && !linkNamed(observed, route.device))) return undefined;
  const same = observed.routes.filter(({ to }) => to === route.to);
  if (same.some(({ via, device }) => via === route.via && device === (route.device ?? device))) return undefined;
  const [other] = same;
  if (!other) return `there is no route to ${route.to}`;
  return `the route to ${route.to} goes ${other.via === undefined ? "" : `via ${other.via} `}dev ${other.device}`;
};

const lookAtEntry = async (
  kernel: Kernel,
  operation: Extract<Operation, { op: "neighbor.add" | "fdb.add" }>,
  signal?: AbortSignal,
): Promise<string | undefined> => {
  const { namespace, device, mac } = operation;
  if (operation.op === "neighbor.add") {
    const found = await kernel.lookup(namespace, { kind: "neighbor", device, ip: operation.ip }, signal);
    if (found?.mac === mac) return undefined;
    return found?.mac === undefined ? "there is no entry" : `the entry says ${found.mac}`;
  }
  const { destination } = operation;
  // The entry of everybody has many destinations, of which the kernel tells one.
  if (destination === undefined || mac === everybody) return undefined;
  const found = await kernel.lookup(namespace, { kind: "fdb", device, mac }, signal);
  if (found?.destination === destination) return undefined;
  return found?.destination === undefined ? "there is no entry" : `the entry says ${found.destination}`;
};

const everybody = "00:00:00:00:00:00";

const lookAtSysctl = async (
  probe: HostProbe,
  { key, value }: Extract<Operation, { op: "sysctl.set" }>,
): Promise<string | undefined> => {
  const found = await probe.read(`/proc/sys/${key}`);
  return found === undefined || found === value ? undefined : `${key} is ${found}`;
};
