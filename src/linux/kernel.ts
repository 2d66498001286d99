import type { Family, Ip } from "../net/ip.ts";
import type { Mac } from "../net/mac.ts";
import type { InterfaceAddress } from "../net/prefix.ts";
import type { ForwardDrop } from "./forward-drops.ts";
import type { LookupQuery, LookupResult } from "./lookup.ts";
import type { NeighborEntry } from "./neighbor-entries.ts";
import type { LinkLoss } from "./netlink/link-loss.ts";
import type { NamespaceRef, Operation, Plan, RouteSpec } from "./plan.ts";
import type { Redirect } from "./redirect.ts";

/** A link as the kernel shows it. */
export interface ObservedLink {
  readonly index: number;
  readonly name: string;
  /** `bridge`, `veth`, ...; absent for physical devices and the loopback. */
  readonly kind?: string;
  readonly alias?: string;
  readonly mac?: Mac;
  readonly mtu: number;
  readonly up: boolean;
  /** Index of the bridge that it is a port of. */
  readonly master?: number;
  /** Index of the other end or of the parent. */
  readonly peer?: number;
  /** What makes a VXLAN device. */
  readonly vxlan?: {
    readonly vni: number;
    readonly port: number;
    readonly local?: Ip;
    readonly learning: boolean;
    readonly proxy: boolean;
    readonly l2miss: boolean;
    readonly l3miss: boolean;
  };
  readonly addresses: readonly InterfaceAddress[];
}

export interface Observed {
  readonly links: readonly ObservedLink[];
  /** Routes of the main table, both families. */
  readonly routes: readonly RouteSpec[];
}

/** A socket to open inside a namespace, handed out as a file descriptor of this process. */
export interface SocketRequest {
  readonly protocol: "udp" | "tcp" | "sctp";
  readonly address: Ip;
  /** 0 lets the kernel choose from `net.ipv4.ip_local_port_range`. */
  readonly port: number;
  /**
   * A redirect (`nft.redirect`) in the namespace, of a port of the same address, one for all sockets of a request: where it leads to a port of this protocol that is
   * free, that one is taken and not `port`, so that clients find this socket in the place of an earlier one.
   */
  readonly redirectedBy?: Pick<Redirect, "table" | "port">;
  /**
   * Holds the port: no other program can bind it, and only clients on the loopback device reach it. Failures name the port and
   * who has it.
   */
  readonly hold?: {
    /** With the address `::`: IPv4 too, by the same socket. Where the kernel has no IPv6, IPv4 alone. */
    readonly bothFamilies?: boolean;
    /** TCP: whoever connects is heard. */
    readonly listen?: boolean;
    /** First and last port to try in order where `port` is taken. */
    readonly otherwise?: readonly [number, number];
  };
}

export interface OpenedSocket {
  readonly fd: number;
  readonly port: number;
  /** Of a held port: the socket's family. */
  readonly family?: Family;
  /** The redirect that was asked about leads to the sockets of this request, and is just as `nft.redirect` makes it. */
  readonly redirected?: true;
}

/** The kernel's table of neighbours of one family, which all namespaces of the host share. */
export interface NeighborTable {
  readonly family: 4 | 6;
  /** Permanent ones, too. */
  readonly entries: number;
  /** As many as there can be that are not permanent: gc_thresh3. */
  readonly limit: number;
}

/** How a table of the host differs from what it should be, in lines of nft's listing. */
export interface TableDifference {
  /** Family and name: `inet t`. */
  readonly table: string;
  /** There is no such table; then nothing else of it was compared, nor any other table. */
  readonly absent: boolean;
  readonly missing: readonly string[];
  readonly extra: readonly string[];
  /** Lines that there should be. */
  readonly expected: number;
  /** The same lines in another order. */
  readonly reordered: boolean;
}

/** Somebody else's change of the host's tables; undefined where it is not known what changed. */
export type ForeignChange = { readonly program: string; readonly pid: number } | undefined;

/** The kernel as the controller sees it: apply a plan, look at a namespace, open sockets inside one. */
export interface Kernel {
  /** Why nothing can be done in the kernel now; undefined while it answers. */
  readonly trouble: string | undefined;
  /**
   * Applies the operations in order; when one fails, undoes those before it in reverse and throws.
   * Adding what is there in the same form and deleting what is not there succeed: plans may be repeated.
   * @returns the operations that had to change something, in order
   * @throws NetworkError with errno, the kernel's extended ACK text and the command that is equivalent to the failed operation
   */
  apply(plan: Plan, signal?: AbortSignal): Promise<readonly Operation[]>;
  /** Applies every operation whatever fails before it; throws one AggregateError of all failures at the end. */
  teardown(plan: Plan, signal?: AbortSignal): Promise<void>;
  /** Whether a path is a namespace: cheaper than to observe it. */
  isNamespace(path: string): Promise<boolean>;
  /** Undefined where the namespace does not exist (no file, or a file that is no namespace). */
  /** @param of `addressed` leaves links out that have no address: hundreds of a host's */
  observe(namespace: NamespaceRef, signal?: AbortSignal, of?: "addressed"): Promise<Observed | undefined>;
  /** The permanent entries of neighbours and forwarding; undefined where there is no such namespace. */
  entries(namespace: NamespaceRef, signal?: AbortSignal): Promise<readonly NeighborEntry[] | undefined>;
  /** Paths of the namespace files in a directory; none where there is no such directory. */
  namespacesIn(directory: string): Promise<readonly string[]>;
  /** Paths of the files in a directory that were made for namespaces of ours and have none: a crash came between. */
  vacantIn(directory: string): Promise<readonly string[]>;
  /** What the kernel would do with a packet: one step of its way. @throws NetworkError `no-namespace` */
  lookup(namespace: NamespaceRef, query: LookupQuery, signal?: AbortSignal): Promise<LookupResult | undefined>;
  openSockets(
    namespace: NamespaceRef,
    sockets: readonly SocketRequest[],
    signal?: AbortSignal,
  ): Promise<readonly OpenedSocket[]>;
  /**
   * Compares tables of the host with what a script makes of an empty host. Where the first is not there, that is all that is found.
   * @param tables family and name: `inet t`
   * @returns those that are not the same
   */
  compareTables(script: string, tables: readonly string[], signal?: AbortSignal): Promise<readonly TableDifference[]>;
  /**
   * Tells of every change of the host's tables that was not made through this object, without polling.
   * @param isOurs whether a table of that name, of whatever family, is looked after
   * @returns what ends it
   */
  watchTables(isOurs: (table: string) => boolean, onChange: (change: ForeignChange) => void): Promise<() => void>;

  /**
   * Makes a table that nobody else can remove, so that translated connections go on while all other tables are gone.
   * @returns what removes it
   * @throws NetworkError where the kernel knows no tables with an owner (before Linux 5.12)
   */
  holdConnections(table: string): Promise<() => void>;
  /**
   * Tells of the host's links of a mark that went, went down or lost their bridge, and of addresses that went, whoever caused it;
   * undefined: some were missed. @returns what ends it
   */
  watchLinks(mark: string, onLoss: (loss: LinkLoss | undefined) => void): Promise<() => void>;
  /** Tells of every change of the host's routes, ours included, without polling. @returns what ends it */
  watchRoutes(onChange: () => void): Promise<() => void>;
  neighborTables(signal?: AbortSignal): Promise<readonly NeighborTable[]>;
  /** The program that is bound to a port of the host, as `nginx (process 123)`; undefined where none is, or it cannot be told. */
  portOwner(protocol: "tcp" | "udp" | "sctp", port: number, signal?: AbortSignal): Promise<string | undefined>;
  /** Chains of other programs that drop what the host forwards, and what they let through. */
  forwardDrops(signal?: AbortSignal): Promise<readonly ForwardDrop[]>;
  close(): Promise<void>;
}
