import type { FirewallNetwork } from "../linux/firewall.ts";
import type { GuardedPort } from "../linux/firewall-spoof.ts";
import type { NamespaceRef, Plan } from "../linux/plan.ts";
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
  /** Segment id (VXLAN's VNI) of the subnet, where the driver's networks have them. */
  readonly vni?: number;
}

/** What a driver of global scope sees of the host it works on. */
export interface DriverHost {
  /** Where this host takes encapsulated packets. */
  readonly vtep: Ip;
  /** MTU in bytes of the way to the other hosts; 1500 where absent. */
  readonly underlayMtu?: number;
  /** Directory of namespace files: `/var/run/docker/netns`. */
  readonly namespaceDir: string;
  /** Segments are made in the host's own namespace (`_OVERLAY_HOST_MODE` of the original). */
  readonly overlayHostMode?: boolean;
  /** False where plans may not use nftables (firewall backend `none`). */
  readonly firewall?: boolean;
}

/** An endpoint attached on another host. */
export interface DriverPeer {
  readonly addresses: readonly InterfaceAddress[];
  readonly mac: Mac;
  readonly vtep: Ip;
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
  /** What the sandbox may call itself on the link, where it is kept from forging addresses. */
  readonly guarded?: GuardedPort;
  /** `hostLink` is to be kept apart from those of the network's other endpoints, but for published ports. */
  readonly apart?: boolean;
  /**
   * Present where the host's NAT reaches the endpoint: ports of the sandbox lead to it while it carries the default route.
   * `hostAddress` is the address that they are bound to where none was asked for; absent: every address of the host.
   */
  readonly publish?: {
    readonly hostAddress?: Ip;
    /** The network is routed: its published ports are reached at the endpoint's own address, too. */
    readonly routed?: boolean;
  };
  /** Next hops for the sandbox's default routes, at most one a family; none on internal networks. */
  readonly gateways: readonly Ip[];
}

/** What was found of a network that nobody knows any more. */
export interface NetworkRemains {
  readonly id: string;
  readonly mark: string;
  readonly namespace: NamespaceRef;
  /** Links that carry the mark. */
  readonly links: readonly { readonly name: string; readonly kind?: string }[];
}

/** A table of nftables that a driver's plans make. */
export interface DriverTable {
  /** Family and name: `inet t`. */
  readonly table: string;
  /** The batch that makes it as it should be, whatever is there. */
  readonly ruleset: string;
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
  /** @param host given to drivers that have a `presence` */
  attach(network: DriverNetwork, endpoint: DriverEndpoint, sandbox: DriverSandbox, host?: DriverHost): Attachment;
  /** The network's part of the host's nftables table; undefined where it needs none. */
  firewall(network: DriverNetwork): FirewallNetwork | undefined;
  /** Where every subnet needs a segment id: the lowest free ones from `first`, chosen in the transaction of the network. */
  readonly segments?: {
    readonly first: number;
    readonly last: number;
    /** Ids that the network's options ask for, one a subnet. */
    fixed(options: Options): readonly number[] | undefined;
  };
  /** What a network needs on a host before its first endpoint joins there, and what removes it after the last has left. */
  readonly presence?: {
    create(network: DriverNetwork, host: DriverHost): Plan;
    remove(network: DriverNetwork, host: DriverHost): Plan;
    /** What removes a network whose record is gone, from what its mark is still found on. */
    removeRemains?(remains: NetworkRemains, host: DriverHost): Plan;
    /** The nftables table of `create` and `peers.hosts`, kept when other programs flush it; undefined where there is none. */
    firewall?(network: DriverNetwork, host: DriverHost, vteps: readonly Ip[]): DriverTable | undefined;
  };
  /**
   * Endpoints attached on other hosts, as this host must know them. Plans may be repeated. `add` replaces what is known of the
   * same addresses: where an endpoint moved from one host to another, it is all that is needed, and a `remove` of the old place
   * after it would take the new one's neighbour entries.
   */
  readonly peers?: {
    add(network: DriverNetwork, host: DriverHost, peer: DriverPeer): Plan;
    remove(network: DriverNetwork, host: DriverHost, peer: DriverPeer): Plan;
    /** The devices whose entries are these peers and nothing else, so that what is missing or left over can be told. */
    place?(
      network: DriverNetwork,
      host: DriverHost,
    ): { readonly namespace: NamespaceRef; readonly devices: readonly string[] };
    /** What goes to all: the other hosts that have the network. `gone` are those that had it before. */
    hosts(network: DriverNetwork, host: DriverHost, vteps: readonly Ip[], gone: readonly Ip[]): Plan;
  };
}
