import type { FirewallNetwork } from "../linux/firewall.ts";
import type { Plan } from "../linux/plan.ts";
import type { Ip } from "../net/ip.ts";
import type { Mac } from "../net/mac.ts";
import type { InterfaceAddress, Prefix } from "../net/prefix.ts";

/**
 * The driver contract. A driver is pure: from its options and the records handed to it, it computes plans. It never
 * touches the store, the kernel, the API or another driver; the controller applies what it returns.
 */

export type Scope = "local" | "global";
export type Options = Readonly<Record<string, string>>;

/** One subnet of a network. */
export interface Subnet {
  readonly pool: Prefix;
  readonly range?: Prefix;
  /** Absent where nobody owns a gateway address (`--internal` networks have one too, on the bridge). */
  readonly gateway?: InterfaceAddress;
}

/** What a driver sees of a network. */
export interface DriverNetwork {
  readonly id: string;
  readonly name: string;
  /** Our mark for every link of the network: reconcile touches only what carries it. */
  readonly mark: string;
  readonly internal: boolean;
  readonly ipv6: boolean;
  readonly options: Options;
  readonly subnets: readonly Subnet[];
}

/** What a driver sees of an endpoint. */
export interface DriverEndpoint {
  readonly id: string;
  readonly name: string;
  /** Our mark for the endpoint's link on the host. */
  readonly mark: string;
  readonly addresses: readonly InterfaceAddress[];
  readonly mac?: Mac;
  readonly options: Options;
}

/** What a driver sees of a sandbox that an endpoint joins. */
export interface DriverSandbox {
  readonly id: string;
  /** Path of the network namespace, or `host`. */
  readonly namespace: string;
  /** Name of the interface inside, chosen by the controller: `eth0`, `eth1`, ... */
  readonly interfaceName: string;
  /** It has ports to publish: it may come back to itself by them. */
  readonly ports?: boolean;
}

/** How an endpoint is wired into a sandbox. */
export interface Attachment {
  /** Operations that make the endpoint's interface appear in the sandbox. */
  readonly attach: Plan;
  /** Operations that remove it, complete even where the sandbox's namespace is gone. */
  readonly detach: Plan;
  /** Name of the endpoint's link on the host, where it has one: what the host's link table shows. */
  readonly hostLink?: string;
  /**
   * Present where the host's NAT reaches the endpoint: ports of the sandbox lead to it while it carries the default route.
   * `hostAddress` is the address that they are bound to where none was asked for; absent: every address of the host.
   */
  readonly publish?: { readonly hostAddress?: Ip };
  /** Next hops for the sandbox's default routes, at most one a family; none on internal networks. */
  readonly gateways: readonly Ip[];
}

export interface NetworkDriver {
  readonly name: string;
  readonly scope: Scope;
  /** False for drivers that use the host's own stack: no pools, no addresses, no interface. */
  readonly usesIpam: boolean;
  /** True where only one network of the driver may exist and it cannot be deleted (`host`, `null`). */
  readonly singleton: boolean;
  /** True where a sandbox reaches the outside through this network. */
  readonly hasWayOut: boolean;
  /**
   * Checks and completes a network's options; returns them canonical.
   * @throws NetworkError (bad request) that names the option
   */
  checkNetwork(network: DriverNetwork): Options;
  /** Operations that make the network exist on this host. */
  createNetwork(network: DriverNetwork): Plan;
  /** Operations that remove it. */
  deleteNetwork(network: DriverNetwork): Plan;
  attach(network: DriverNetwork, endpoint: DriverEndpoint, sandbox: DriverSandbox): Attachment;
  /** The network's part of the host's nftables table; undefined where it needs none. */
  firewall(network: DriverNetwork): FirewallNetwork | undefined;
}
