import type { ClusterNode } from "../cluster/merge-nodes.ts";
import type { Options, Scope, Subnet } from "../drivers/driver.ts";
import type { Explanation as FirewallRules } from "../linux/firewall-explain.ts";
import type { Ip } from "../net/ip.ts";
import type { Mac } from "../net/mac.ts";
import type { InterfaceAddress, Prefix } from "../net/prefix.ts";
import type { ExposedPort, PortRequest, PublishedPort } from "../ports/port-mapping.ts";
import type { Diagnosis, RepairReport } from "./doctor/diagnosis.ts";
import type { ExplainSubject, Explanation } from "./explain.ts";
import type { GarbageReport, GarbageRequest } from "./garbage.ts";
import type { Trace } from "./trace-model.ts";

/** Since when reads may be out of date, and why. */
export interface Stale {
  readonly since: Date;
  readonly reason: string;
}

/** The container network model as its users see it: networks, endpoints, sandboxes, and what can be done with them. */

export interface NetworkInfo {
  /** 64 hex digits. */
  readonly id: string;
  readonly name: string;
  readonly driver: string;
  readonly scope: Scope;
  readonly internal: boolean;
  readonly ipv6: boolean;
  readonly options: Options;
  readonly labels: Readonly<Record<string, string>>;
  readonly subnets: readonly Subnet[];
  /** ISO 8601, UTC. */
  readonly created: string;
}

export interface EndpointInfo {
  readonly id: string;
  readonly name: string;
  readonly networkId: string;
  readonly network: string;
  /** Further names, valid for every sandbox of the network. */
  readonly aliases: readonly string[];
  readonly addresses: readonly InterfaceAddress[];
  readonly mac?: Mac;
  readonly created: string;
  /** Id of the node where the endpoint is attached; absent while it is attached to no sandbox. */
  readonly node?: string;
  /** The sandbox of this host that the endpoint is attached to: sandboxes of other hosts are theirs to show. */
  readonly sandboxId?: string;
  readonly containerId?: string;
  /** Name of the interface in the sandbox, where attached: `eth0`. */
  readonly interfaceName?: string;
}

export interface SandboxInfo {
  readonly id: string;
  /** Path of the network namespace. */
  readonly key: string;
  readonly containerId: string;
  readonly hostName: string;
  readonly domainName: string;
  readonly created: string;
  /** Ids of the endpoints attached, in the order they joined. */
  readonly endpoints: readonly string[];
  /** Ports asked for. */
  readonly ports: readonly PortRequest[];
  readonly exposed: readonly ExposedPort[];
  /** Ports of the host that lead to the sandbox at present. */
  readonly published: readonly PublishedPort[];
}

export interface SubnetRequest {
  readonly pool?: Prefix;
  readonly range?: Prefix;
  readonly gateway?: Ip;
  /** Addresses set aside, by name. */
  readonly auxiliary?: Readonly<Record<string, Ip>>;
}

export interface CreateNetwork {
  readonly name: string;
  /** 64 hex digits; generated where absent. */
  readonly id?: string;
  /** Driver; the configured default where absent. */
  readonly driver?: string;
  readonly internal?: boolean;
  /** False for a network of IPv6 alone. */
  readonly ipv4?: boolean;
  readonly ipv6?: boolean;
  readonly options?: Options;
  readonly labels?: Readonly<Record<string, string>>;
  /** Both families mixed; a default pool where a family that the network has is missing. */
  readonly subnets?: readonly SubnetRequest[];
}

export interface CreateEndpoint {
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly addresses?: readonly Ip[];
  readonly mac?: Mac;
  readonly options?: Options;
}

export interface AttachOptions {
  /** `name` or `container:alias`, valid in this sandbox only. */
  readonly aliases?: readonly string[];
  /** The endpoint with the highest one carries the default route; among equals the first that joined. Default 0. */
  readonly gatewayPriority?: number;
}

export interface CreateSandbox {
  readonly containerId: string;
  readonly hostName?: string;
  readonly domainName?: string;
  /** Where the hosts and resolv.conf files are written instead of the default place; absolute paths. */
  readonly hostsPath?: string;
  readonly resolvConfPath?: string;
  /** Resolvers that replace the host's for names we do not own. */
  readonly dns?: readonly Ip[];
  readonly dnsSearch?: readonly string[];
  readonly dnsOptions?: readonly string[];
  /** More lines for the hosts file. */
  readonly extraHosts?: readonly { readonly name: string; readonly address: Ip }[];
  /** Ports of the host that lead to the sandbox while it has an endpoint that the host's NAT reaches. */
  readonly ports?: readonly PortRequest[];
  readonly exposed?: readonly ExposedPort[];
  /** The host's own network stack in place of a new namespace. */
  readonly useDefaultSandbox?: boolean;
}

/** The rules of the firewall that matter to a network or a port, and why. */
export interface FirewallExplanation extends FirewallRules {
  readonly backend: "nftables" | "none";
  /** The host's nftables table; absent without one. */
  readonly table?: string;
  /** Tables beside it that the rules are in. */
  readonly tables?: readonly string[];
}

/**
 * What a daemon, an API or an embedding program calls. Every method that changes something commits one store transaction,
 * then makes the kernel match; both take an AbortSignal. Ids are full ids; names are resolved by the caller.
 */
export interface Controller {
  /** Name of the network that `SERVICE` without `.NETWORK` means. */
  readonly defaultNetwork: string;
  /** Id of this node: eight hex digits. */
  readonly node: string;
  networks(): readonly NetworkInfo[];
  /** @throws NetworkError `no-network` (not found) "Resource not found: Network" */
  network(id: string): NetworkInfo;
  createNetwork(request: CreateNetwork, signal?: AbortSignal): Promise<NetworkInfo>;
  deleteNetwork(id: string, signal?: AbortSignal): Promise<void>;
  /** All endpoints, or those of one network. */
  endpoints(networkId?: string): readonly EndpointInfo[];
  /** @throws NetworkError `no-endpoint` (not found) "Resource not found: Endpoint" */
  endpoint(id: string): EndpointInfo;
  createEndpoint(networkId: string, request: CreateEndpoint, signal?: AbortSignal): Promise<EndpointInfo>;
  deleteEndpoint(id: string, options?: { readonly force?: boolean }, signal?: AbortSignal): Promise<void>;
  attach(endpointId: string, sandboxId: string, options?: AttachOptions, signal?: AbortSignal): Promise<SandboxInfo>;
  detach(endpointId: string, sandboxId: string, signal?: AbortSignal): Promise<void>;
  sandboxes(): readonly SandboxInfo[];
  /** @throws NetworkError `no-sandbox` (not found) "Resource not found: Sandbox" */
  sandbox(id: string): SandboxInfo;
  createSandbox(request: CreateSandbox, signal?: AbortSignal): Promise<SandboxInfo>;
  deleteSandbox(id: string, signal?: AbortSignal): Promise<void>;
  /** The kernel objects that make something up on this host. @throws NetworkError (not found) */
  explain(subject: ExplainSubject, id: string): Explanation;
  /**
   * Follows a packet from a sandbox hop by hop.
   * @param to an address, or a name in the sandbox's networks
   * @param options.ping sends echo requests too
   */
  trace(sandboxId: string, to: string, options?: { readonly ping?: boolean }, signal?: AbortSignal): Promise<Trace>;
  /**
   * Waits until everything that was written anywhere before the call is seen here; a read that follows shows it.
   * @returns since when reads may be out of date, where the shared store does not answer
   */
  sync(signal?: AbortSignal): Promise<Stale | undefined>;
  /** @throws NetworkError `no-network` */
  explainNetwork(id: string): FirewallExplanation;
  /** @throws NetworkError `invalid-port` (bad request) */
  explainPort(port: number, protocol: "tcp" | "udp" | "sctp", signal?: AbortSignal): Promise<FirewallExplanation>;
  /** Why it does less than it should: records lost or unreadable, a store that cannot be written. Empty when all is well. */
  readonly degraded: readonly string[];
  /** How often something was put right since the start that others changed, or that a crash left. */
  readonly repairs: number;
  /**
   * Compares store, kernel, files and cluster; changes nothing.
   * @param nodes the cluster as this node sees it
   */
  diagnose(nodes: readonly ClusterNode[], signal?: AbortSignal): Promise<Diagnosis>;
  /** Removes what differences can be removed, and looks again. */
  repair(nodes: readonly ClusterNode[], signal?: AbortSignal): Promise<RepairReport>;
  /**
   * Removes records of nodes that will not come back.
   * @throws NetworkError `no-node` (not found), `node-alive` (forbidden), `store-unavailable`
   */
  collectGarbage(nodes: readonly ClusterNode[], request: GarbageRequest, signal?: AbortSignal): Promise<GarbageReport>;
  /** Stops serving (DNS, watches); sandboxes keep running. */
  close(): Promise<void>;
}
