import type { PingResult } from "../linux/ping.ts";
import type { Ip } from "../net/ip.ts";

/** One step of a packet's way. */
export interface Hop {
  /** `container c1`, `host`, `namespace 1-ae0e5b2b78`, `node 0badcafe`. */
  readonly where: string;
  /** What happens to the packet there. */
  readonly what: string;
  /** What shows it. */
  readonly command?: string;
}

/** Where a packet would be lost. */
export interface Loss {
  readonly reason: string;
  readonly hint?: string;
}

export interface Trace {
  readonly destination: Ip;
  readonly hops: readonly Hop[];
  /** Absent where nothing that can be seen from this host stops the packet. */
  readonly lost?: Loss;
  /** What echo requests say, where they were asked for. */
  readonly ping?: PingResult;
}
