import type { DriverEndpoint, DriverHost, DriverNetwork, NetworkDriver } from "../drivers/driver.ts";
import { badRequest, type NetworkError, noService, notFound } from "../errors.ts";
import type { Ipam } from "../ipam/ipam.ts";
import type { HostProbe } from "../linux/host-probe.ts";
import type { Kernel, Observed } from "../linux/kernel.ts";
import { hostNamespace, type Plan } from "../linux/plan.ts";
import type { Prefix } from "../net/prefix.ts";
import type { Firewall } from "./firewall-guard.ts";
import type { HostConditions } from "./host-conditions.ts";
import type { Locks } from "./locks.ts";
import type { PortPublisher } from "./port-publisher.ts";
import type { EndpointRecord, NetworkRecord, SandboxRecord } from "./records.ts";
import type { Repairs } from "./repairs.ts";
import type { State } from "./state.ts";
import { refuseUnreadable } from "./unreadable-record.ts";
import type { GatewayNetwork } from "./way-out.ts";

export type Log = (level: "debug" | "info" | "warning" | "error", message: string) => void;

/** Something that a sandbox's names lack. */
export interface NamingProblem {
  readonly part: "hosts" | "resolv.conf" | "resolver";
  readonly what: string;
}

/** Names and files of running sandboxes; implemented by `naming.ts`. */
export interface Naming {
  /** Makes the sandbox's directory: it exists before the namespace and goes after it, so that nothing of ours is forgotten. */
  prepare(sandbox: SandboxRecord): Promise<void>;
  /**
   * Writes the sandbox's files and starts its resolver, where it does not run.
   * @param fresh the sandbox is new: a file of its creator's choice that cannot be written is an error, not a warning
   */
  open(sandbox: SandboxRecord, signal?: AbortSignal, fresh?: boolean): Promise<void>;
  /**
   * At a start: the resolvers of all sandboxes that are there answer again, before anything else is looked at. What fails
   * is tried again by `open`, which says so.
   */
  resume(signal?: AbortSignal): Promise<void>;
  /** Tells the name table and the files what an endpoint's record became; undefined where it is gone. */
  changed(endpoint: EndpointRecord | undefined, before: EndpointRecord | undefined): Promise<void>;
  /** What the kernel has for the sandbox's resolver, where it runs. */
  plan(sandbox: SandboxRecord): Plan;
  /** Stops the sandbox's resolver. */
  close(sandbox: SandboxRecord): Promise<void>;
  /** Removes the sandbox's directory. */
  discard(sandboxId: string): Promise<void>;
  /** What is wrong with the sandbox's files and its resolver, as a program in it would see it. */
  examine(sandbox: SandboxRecord, signal?: AbortSignal): Promise<readonly NamingProblem[]>;
  /** Ids of all sandboxes that have a directory. */
  directories(): Promise<readonly string[]>;
  closeAll(): Promise<void>;
}

/** What the parts of the controller share. */
export interface Context {
  readonly state: State;
  readonly kernel: Kernel;
  /** What is read of the host beside the kernel's network. */
  readonly probe: HostProbe;
  readonly drivers: ReadonlyMap<string, NetworkDriver>;
  readonly ipam: Ipam;
  readonly locks: Locks;
  readonly naming: Naming;
  readonly log: Log;
  /** Eight hex digits that tell this daemon's kernel objects from another's on the same host, and this node from others. */
  readonly instance: string;
  /** Directory of namespace files: `/var/run/docker/netns`. */
  readonly namespaceDir: string;
  /** What people call a node, given its id. */
  readonly nodeName: (node: string) => string;
  /** This host, for networks that span hosts; absent where it has no part in them. */
  readonly host: DriverHost | undefined;
  /** How sandboxes get out whose networks have no way out; absent where they do not. */
  readonly gateway: GatewayNetwork | undefined;
  readonly defaultNetwork: string;
  readonly defaultDriver: string;
  /** Prefixes that default pools keep clear of: the host's routes and resolvers. */
  readonly avoid: (host: Observed | undefined, signal?: AbortSignal) => Promise<readonly Prefix[]>;
  /** Published ports, or undefined with firewall backend `none`. */
  readonly ports: PortPublisher | undefined;
  /** Name of the nftables table, or undefined with firewall backend `none`. */
  readonly firewallTable: string | undefined;
  readonly firewall: Firewall;
  readonly conditions: HostConditions;
  readonly repairs: Repairs;
}

/** @throws NetworkError `no-driver` (not found), quickly: there is no plugin to wait for */
export const driverOf = (context: Context, name: string): NetworkDriver => {
  const driver = context.drivers.get(name);
  if (!driver) {
    throw notFound(
      "no-driver",
      `could not find plugin ${JSON.stringify(name).slice(1, 81).replace(/"$/, "")} in v1 plugin registry: plugin not found`,
      {
        hint: `drivers: ${[...context.drivers.keys()].join(", ")}`,
      },
    );
  }
  return driver;
};

/** Our mark on kernel objects: `dnet:<instance>:<id>`. */
export const markOf = (context: Pick<Context, "instance">, id: string): string => `dnet:${context.instance}:${id}`;

/** The id in a mark of this daemon, or undefined for another's. */
export const idOfMark = (context: Pick<Context, "instance">, mark: string | undefined): string | undefined => {
  const prefix = `dnet:${context.instance}:`;
  return mark?.startsWith(prefix) ? mark.slice(prefix.length) : undefined;
};

export const driverNetwork = (context: Context, record: NetworkRecord): DriverNetwork => ({
  id: record.id,
  name: record.name,
  mark: markOf(context, record.id),
  internal: record.internal,
  ipv6: record.ipv6,
  options: record.options,
  subnets: record.subnets,
});

export const driverEndpoint = (context: Context, record: EndpointRecord): DriverEndpoint => ({
  id: record.id,
  name: record.name,
  mark: markOf(context, record.id),
  addresses: record.addresses,
  ...(record.mac !== undefined && { mac: record.mac }),
  options: record.options,
});

/** Path that every sandbox on the host's stack shares. */
export const hostStackPath = (context: Pick<Context, "namespaceDir">): string => `${context.namespaceDir}/default`;

/** Path of the file of a sandbox's network namespace; those on the host's stack share `default`, as in the original. */
export const namespaceKey = (context: Pick<Context, "namespaceDir">, sandbox: SandboxRecord): string =>
  sandbox.host ? hostStackPath(context) : `${context.namespaceDir}/${sandbox.id.slice(0, 12)}`;

/** The driver of a stored network, or undefined where there is none of the name or it refuses the record's options. */
export const usableDriver = (
  context: Context,
  record: NetworkRecord,
  onUnusable: (error: unknown) => void = () => undefined,
): NetworkDriver | undefined => {
  try {
    const driver = driverOf(context, record.driver);
    driver.checkNetwork(driverNetwork(context, record));
    return driver;
  } catch (error) {
    onUnusable(error);
    return undefined;
  }
};

/** The network namespace that plans for a sandbox name: the path of its file, or the host's. */
export const namespaceOf = (context: Pick<Context, "namespaceDir">, sandbox: SandboxRecord): string =>
  sandbox.host ? hostNamespace : namespaceKey(context, sandbox);

/** True where the endpoint is attached to a sandbox of this host. */
export const isHere = (context: Pick<Context, "instance">, endpoint: EndpointRecord): boolean =>
  endpoint.sandbox?.node === context.instance;

/** Why something is not among the records: perhaps its record cannot be read. */
const absent = ({ state }: Context, id: string, otherwise: NetworkError): NetworkError => {
  const unreadable = id.length === 64 ? state.unreadableRecord(id) : undefined;
  return unreadable ? refuseUnreadable(unreadable) : otherwise;
};

export const requireNetwork = (context: Context, id: string): NetworkRecord => {
  const record = context.state.networks.get(id);
  if (!record) throw absent(context, id, notFound("no-network", "Resource not found: Network"));
  return record;
};

/** This host, for a network that spans hosts. @throws NetworkError `no-vtep` (no service) */
export const requireHost = ({ host }: Context, network: NetworkRecord): DriverHost => {
  if (host) return host;
  throw noService("no-vtep", `network ${network.name} spans hosts, and this node has no address for that`, {
    hint: "set [cluster] address to the address that other hosts reach this one at",
  });
};

export const requireEndpoint = (context: Context, id: string): EndpointRecord => {
  const record = context.state.endpoints.get(id);
  if (!record) throw absent(context, id, notFound("no-endpoint", "Resource not found: Endpoint"));
  return record;
};

export const requireSandbox = (context: Context, id: string): SandboxRecord => {
  if (id === "") throw badRequest("invalid-id", "invalid id: ");
  const record = context.state.sandboxes.get(id);
  if (!record) throw absent(context, id, notFound("no-sandbox", "Resource not found: Sandbox"));
  return record;
};
