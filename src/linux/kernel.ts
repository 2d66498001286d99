import type { Family, Ip } from "../net/ip.ts";
import type { Mac } from "../net/mac.ts";
import type { InterfaceAddress } from "../net/prefix.ts";
import type { NamespaceRef, Plan, RouteSpec } from "./plan.ts";

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
}

/** The kernel as the controller sees it: apply a plan, look at a namespace, open sockets inside one. */
export interface Kernel {
  /**
   * Applies the operations in order; when one fails, undoes those before it in reverse and throws.
   * Adding what is there in the same form and deleting what is not there succeed: plans may be repeated.
   * @throws NetworkError with errno, the kernel's extended ACK text and the command that is equivalent to the failed operation
   */
  apply(plan: Plan, signal?: AbortSignal): Promise<void>;
  /** Applies every operation whatever fails before it; throws one AggregateError of all failures at the end. */
  teardown(plan: Plan, signal?: AbortSignal): Promise<void>;
  /** Undefined where the namespace does not exist (no file, or a file that is no namespace). */
  observe(namespace: NamespaceRef, signal?: AbortSignal): Promise<Observed | undefined>;
  openSockets(
    namespace: NamespaceRef,
    sockets: readonly SocketRequest[],
    signal?: AbortSignal,
  ): Promise<readonly OpenedSocket[]>;
  close(): Promise<void>;
}
