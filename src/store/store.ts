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
  | { readonly kind: "snapshot"; readonly entries: readonly StoreEntry[] }
  | { readonly kind: "put"; readonly entry: StoreEntry }
  | { readonly kind: "delete"; readonly key: string };

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
  /** Applies everything or nothing. A key may appear once among puts and deletes. */
  transact(transaction: Transaction, signal?: AbortSignal): Promise<TransactionResult>;
  /** A snapshot, then changes in order; ends when the signal aborts or the store closes. */
  watch(prefix: string, signal: AbortSignal): AsyncIterable<WatchEvent>;
  /** @param ttl milliseconds */
  lease(ttl: number, signal?: AbortSignal): Promise<Lease>;
  close(): Promise<void>;
}
