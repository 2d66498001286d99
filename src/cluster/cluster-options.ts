import type { Ip } from "../net/ip.ts";
import type { Clock } from "../store/lease-book.ts";
import type { Store } from "../store/store.ts";
import type { Advertise } from "./advertise.ts";
import type { DiscoverySpec } from "./discovery.ts";
import type { Log } from "./log.ts";

export type StorePlace = Extract<DiscoverySpec, { readonly scheme: "consul" | "etcd" }>;

export interface SerfOptions {
  /** Port of the gossip; 7946 without one. The next free one is taken where it is not. */
  readonly port?: number;
  readonly rpcPort?: number;
  /** `[cluster] encrypt`: base64 of 16, 24 or 32 bytes. */
  readonly encrypt?: string;
  /** A directory of this daemon's own: `<execRoot>/serf/<instance>`. It is removed at the end. */
  readonly runDir: string;
  /** The agent's lines of level debug go to the log. */
  readonly debug?: boolean;
  /** Path of the program, in place of `serf` in PATH. */
  readonly binary?: string;
}

export interface ClusterOptions {
  /** The shared store: nodes register there. Stays the caller's. */
  readonly store?: Store;
  /** Where that store is, in the form of a discovery URL: `consul://172.17.0.1:8500/custom_prefix`. */
  readonly storePlace?: string;
  /** Opens the store of a discovery URL that is not the shared one; the cluster closes it. */
  readonly openStore?: (place: StorePlace) => Store | Promise<Store>;
  readonly instance: string;
  readonly hostName: string;
  readonly advertise: Advertise;
  /** Where VXLAN tunnels end, when that is another address. */
  readonly vtep?: Ip;
  /** `[cluster] discovery`; without one the nodes of the shared store find each other. */
  readonly discovery?: string;
  /** Milliseconds; 10 s without one. */
  readonly heartbeat?: number;
  /** `false` for none. */
  readonly serf: SerfOptions | false;
  readonly version: string;
  readonly log: Log;
  /** Gives up the start. */
  readonly signal?: AbortSignal;
  readonly clock?: Clock;
  readonly now?: () => number;
}
