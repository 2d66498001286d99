import type { Ip } from "../net/ip.ts";
import type { InterfaceAddress, Prefix } from "../net/prefix.ts";

/**
 * Address management as pure decisions: given what is taken, which pool or address comes next. The controller puts the
 * answer into the same store transaction as the network or endpoint that owns it, so that nothing can leak.
 */

/** `local`: pools of this host. `global`: pools of every host that shares the store. */
export type AddressSpace = "local" | "global";

export interface PoolRequest {
  readonly family: 4 | 6;
  readonly space: AddressSpace;
  /** The subnet asked for; without it one of the defaults is chosen. */
  readonly pool?: Prefix;
  /** Endpoints get their addresses from this part of the pool only. */
  readonly range?: Prefix;
}

/** What a new pool must not overlap. */
export interface PoolContext {
  /** Pools taken in this address space. */
  readonly pools: readonly Prefix[];
  /** Destinations of the host's routes and its DNS servers; only default pools avoid them. */
  readonly avoid: readonly Prefix[];
}

export interface Pool {
  readonly pool: Prefix;
  readonly range?: Prefix;
}

export interface AddressRequest {
  readonly pool: Prefix;
  readonly range?: Prefix;
  /** The address asked for; without it the lowest free one. */
  readonly address?: Ip;
}

/** The addresses of one pool that are in use: a set that finds the lowest free address in time that does not grow with it. */
export interface AddressSet {
  has(ip: Ip): boolean;
  add(ip: Ip): void;
  delete(ip: Ip): void;
  /** Lowest address between first and last (inclusive) that is not in the set. */
  lowestFree(first: bigint, last: bigint): bigint | undefined;
}

export interface Ipam {
  /** @throws NetworkError: pool overlaps, range outside the pool, no default pool left */
  choosePool(request: PoolRequest, context: PoolContext): Pool | undefined;
  /** @throws NetworkError: address outside the pool, already in use, no address left */
  chooseAddress(request: AddressRequest, taken: AddressSet): InterfaceAddress | undefined;
}
