/**
 * The contract of every store: a small ordered key-value space with multi-key transactions, a watch and leases.
 * Keys are readable paths (`networks/<id>`), values are JSON. One transaction is one change of shared state.
 */

/** A JSON value; what a store returns is untrusted until its reader has validated it. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

export interface StoreEntry {
  readonly key: string;
  readonly value: Json;
  /** Changes with every write of the key; positive, never reused for one key. */
  readonly version: number;
}

/** A precondition: the key is at this version; 0 says that it does not exist. */
export interface Check {
  readonly key: string;
  readonly version: number;
}

export interface Put {
  readonly key: string;
  readonly value: Json;
  /** The entry vanishes with this lease. */
  readonly lease?: string;
}

export interface Transaction {
  readonly checks?: readonly Check[];
  readonly puts?: readonly Put[];
  readonly deletes?: readonly string[];
}

export type TransactionResult =
  /** Everything was written; `version` is the version of every key that was put. */
  | { readonly ok: true; readonly version: number }
  /** Nothing was written; `conflicts` are the keys whose check did not hold. */
  | { readonly ok: false; readonly conflicts: readonly string[] };

export type WatchEvent =
  /** All entries below the prefix, first and again after a loss of continuity. Replaces what was known. */
  | { readonly kind: "snapshot"; readonly version: number; readonly entries: readonly StoreEntry[] }
  /**
   * One transaction (or what went with a lease): the part of it that is below the prefix, possibly nothing. `version` is the
   * version of what it put; everything up to it has now been told. Without puts and deletes also when a lost store is back.
   */
  | {
      readonly kind: "change";
      readonly version: number;
      readonly puts: readonly StoreEntry[];
      readonly deletes: readonly string[];
    }
  /** The store does not answer: what is known may be out of date until the next event of another kind. */
  | { readonly kind: "lost"; readonly reason: string };

export interface Lease {
  readonly id: string;
  /** Keeps the lease alive for another ttl. @throws NetworkError `lease-lost` when it has expired */
  renew(signal?: AbortSignal): Promise<void>;
  /** Ends the lease and removes its entries. */
  revoke(signal?: AbortSignal): Promise<void>;
}

export interface Store {
  get(key: string, signal?: AbortSignal): Promise<StoreEntry | undefined>;
  /** Entries whose key starts with the prefix, in order of their keys (bytes). */
  list(prefix: string, signal?: AbortSignal): Promise<readonly StoreEntry[]>;
  /**
   * Applies everything or nothing. A key may appear once among puts and deletes.
   * @throws NetworkError: nothing was written. Any other error: the answer got lost, and nobody knows whether it was
   */
  transact(transaction: Transaction, signal?: AbortSignal): Promise<TransactionResult>;
  /**
   * Where there is one: `transact` answers when the change survives the death of the process, this when all that it answered
   * before survives that of the machine too. Without it, `transact` promises both.
   * @throws NetworkError `store-unavailable` where the disk fails
   */
  synced?(): Promise<void>;
  /**
   * Version of the newest transaction that had finished, by anybody, when the call began: a watch that has come that far has
   * told everything that was written before. Costs one round trip, whatever the store holds.
   */
  version(signal?: AbortSignal): Promise<number>;
  /** A snapshot, then changes in order; re-lists by itself after a loss. Ends when the signal aborts or the store closes. */
  watch(prefix: string, signal: AbortSignal): AsyncIterable<WatchEvent>;
  /** @param ttl milliseconds; a store may round it up to the shortest it knows */
  lease(ttl: number, signal?: AbortSignal): Promise<Lease>;
  close(): Promise<void>;
}
