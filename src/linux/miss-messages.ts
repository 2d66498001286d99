import type { Ip } from "../net/ip.ts";
import type { Mac } from "../net/mac.ts";

/** What the main thread and the miss worker say to each other. */

export type MissRequest =
  /** A socket to read from; the worker closes it. */
  { readonly kind: "add"; readonly id: number; readonly fd: number } | { readonly kind: "remove"; readonly id: number };

export interface MissReport {
  readonly id: number;
  /** Index of the device. */
  readonly link: number;
  readonly ip?: Ip;
  readonly mac?: Mac;
}

/** Places in the memory that both share. */
export const shared = {
  /** 1 when the worker shall end. */
  ended: 0,
  /** The descriptor to write to after a request; 0 until the worker waits for it. */
  wake: 1,
} as const;
