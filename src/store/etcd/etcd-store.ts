import { randomBytes } from "node:crypto";
import { badRequest, NetworkError, noService, shown } from "../../errors.ts";
import { checkTransaction, closedStore } from "../checks.ts";
import type { Lease, Store, StoreEntry, Transaction, TransactionResult, WatchEvent } from "../store.ts";
import { type EtcdCall, EtcdClient, type EtcdClientOptions, leaseLost, OutOfRange } from "./etcd-client.ts";
import { EtcdKeys, isInternal } from "./etcd-keys.ts";
import {
  anyResponse,
  base64,
  type KeyValue,
  keepAliveLine,
  leaseGrantResponse,
  rangeResponse,
  txnResponse,
} from "./etcd-messages.ts";
import { checkOptions, type EtcdStoreOptions } from "./etcd-options.ts";
import { EtcdWatch, type Head, markOf } from "./etcd-watch.ts";
import { parseValue } from "./parse-value.ts";
import { type Snapshot, WatchFan } from "./watch-fan.ts";

/** etcd's own limits (`--max-txn-ops`, `--max-request-bytes`), the latter with room for what is around the values. */
const maxOperations = 128;
const maxBytes = 1_400_000;
/** Entries asked for at once, and bytes of a whole list that we hold. */
const pageSize = 1_000;
const maxListBytes = 256 * 1024 * 1024;
/** Of an entry, besides key and value. */
const entryBytes = 100;

/**
 * A store in etcd, by its JSON gateway. The version of a key is its `mod_revision`; every transaction also writes one key of our
 * own, so that `version` is a read of that key. Reads are linearizable: they cost a round trip to a majority.
 */
export class EtcdStore implements Store {
  readonly #client: EtcdClient;
  readonly #keys: EtcdKeys;
  readonly #closing = new AbortController();
  /** The stream that all watches share, while there is one. */
  #shared: { readonly fan: WatchFan; readonly stop: AbortController; users: number } | undefined;

  private constructor(client: EtcdClientOptions, prefix: string) {
    this.#client = new EtcdClient(client);
    this.#keys = new EtcdKeys(prefix);
  }

  /**
   * Asks nothing yet: a server that is away fails what is asked of it, and a watch tells that it is lost.
   * @throws NetworkError `invalid-store-address`, `invalid-store-options` (bad request)
   */
  static async open(options: EtcdStoreOptions): Promise<EtcdStore> {
    const { client, prefix } = checkOptions(options);
    return new EtcdStore(client, prefix);
  }

  async get(key: string, signal?: AbortSignal): Promise<StoreEntry | undefined> {
    const call = this.#call(signal);
    const { kvs } = await this.#client.call("/v3/kv/range", { key: this.#keys.encode(key) }, rangeResponse, call);
    return kvs.flatMap((kv) => this.#entry(kv))[0];
  }

  async list(prefix: string, signal?: AbortSignal): Promise<readonly StoreEntry[]> {
    return (await this.#snapshot(prefix, this.#call(signal).signal)).entries;
  }

  /** All entries below a prefix at one revision, page by page. */
  async #snapshot(prefix: string, signal: AbortSignal): Promise<Snapshot> {
    for (let tries = 0; ; tries++) {
      try {
        return await this.#pages(prefix, this.#call(signal).signal);
      } catch (error) {
        // Compacted between two pages.
        if (error instanceof OutOfRange && tries < 3) continue;
        if (!(error instanceof OutOfRange)) throw error;
        throw noService("store-unavailable", `the etcd store cannot be listed: ${error.message}`, { cause: error });
      }
    }
  }

  async #pages(prefix: string, signal: AbortSignal): Promise<Snapshot> {
    const entries: StoreEntry[] = [];
    let revision: number | undefined;
    let after: Buffer | undefined;
    let bytes = 0;
    for (;;) {
      const page = await this.#client.call(
        "/v3/kv/range",
        { ...this.#keys.below(prefix, after), limit: pageSize, ...(revision && { revision: String(revision) }) },
        rangeResponse,
        { signal },
      );
      revision ??= page.header.revision;
      for (const kv of page.kvs) {
        // Otherwise a list might never end.
        if (after && Buffer.compare(kv.key, after) <= 0)
          throw noService("store-unavailable", "the etcd store repeats keys");
        after = kv.key;
        bytes += kv.key.length + kv.value.length + entryBytes;
        entries.push(...this.#entry(kv));
      }
      if (!page.more || page.kvs.length === 0) return { version: revision, entries };
      if (bytes > maxListBytes) throw noService("store-unavailable", "the etcd store holds too much to be listed");
    }
  }

  async transact(transaction: Transaction, signal?: AbortSignal): Promise<TransactionResult> {
    const call = this.#call(signal);
    const texts = checkTransaction(transaction);
    const { checks = [], puts = [], deletes = [] } = transaction;
    this.#checkLimits(transaction, texts);
    for (const { lease } of puts) if (lease !== undefined && !/^\d{1,19}$/.test(lease)) throw leaseLost();
    const { succeeded, header, responses } = await this.#client.call(
      "/v3/kv/txn",
      {
        compare: checks.map(({ key, version }) => ({
          key: this.#keys.encode(key),
          target: "MOD",
          result: "EQUAL",
          mod_revision: String(version),
        })),
        success: [
          this.#bump(),
          ...puts.map(({ key, lease }, n) => ({
            request_put: {
              key: this.#keys.encode(key),
              value: base64(texts[n] ?? "null"),
              ...(lease !== undefined && { lease }),
            },
          })),
          ...deletes.map((key) => ({ request_delete_range: { key: this.#keys.encode(key) } })),
        ],
        failure: checks.map(({ key }) => ({ request_range: { key: this.#keys.encode(key), keys_only: true } })),
      },
      txnResponse,
      { ...call, writes: true },
    );
    if (succeeded) return { ok: true, version: header.revision };
    const conflicts = checks.filter(
      ({ version }, n) => (responses[n]?.response_range?.kvs[0]?.mod_revision ?? 0) !== version,
    );
    return { ok: false, conflicts: [...new Set(conflicts.map(({ key }) => key))] };
  }

  /** The value is different every time: at one revision, it tells this history of the store from any other. */
  #bump() {
    const value = JSON.stringify(randomBytes(9).toString("base64url"));
    return { request_put: { key: this.#keys.revision, value: base64(value) } };
  }

  #checkLimits({ checks = [], puts = [], deletes = [] }: Transaction, texts: readonly string[]): void {
    const fail = (reason: string) => badRequest("invalid-transaction", `invalid transaction: ${reason}`);
    const keys = [...puts.map(({ key }) => key), ...deletes];
    // One operation is our own.
    if (checks.length > maxOperations || keys.length >= maxOperations) {
      throw fail(`etcd takes at most ${maxOperations} checks and ${maxOperations - 1} changes`);
    }
    for (const key of [...keys, ...checks.map(({ key }) => key)]) {
      if (isInternal(key)) throw fail(`key ${key} is the store's own`);
    }
    let bytes = 0;
    for (const text of [...texts, ...keys]) bytes += Buffer.byteLength(text);
    if (bytes > maxBytes) throw fail(`etcd takes at most ${maxBytes} bytes`);
  }

  async version(signal?: AbortSignal): Promise<number> {
    return (await this.#head(this.#call(signal))).version;
  }

  /** Where the store stands, by a linearizable read; makes its own key where it is missing. */
  async #head(call: EtcdCall): Promise<Head> {
    const key = this.#keys.revision;
    for (let tries = 0; tries < 3; tries++) {
      const { header, kvs } = await this.#client.call("/v3/kv/range", { key }, rangeResponse, call);
      const own = kvs[0];
      if (own) return { revision: header.revision, version: own.mod_revision, mark: markOf(own) };
      const compare = [{ key, target: "MOD", result: "EQUAL", mod_revision: "0" }];
      await this.#client.call("/v3/kv/txn", { compare, success: [this.#bump()] }, txnResponse, call);
    }
    throw noService("store-unavailable", "the etcd store does not keep what is written");
  }

  watch(prefix: string, signal: AbortSignal): AsyncIterable<WatchEvent> {
    this.#open();
    return this.#watch(prefix, signal);
  }

  async *#watch(prefix: string, signal: AbortSignal): AsyncGenerator<WatchEvent> {
    if (this.#closing.signal.aborted) return;
    this.#shared ??= this.#follow();
    const shared = this.#shared;
    shared.users++;
    try {
      yield* shared.fan.watch(prefix, signal, (signal) => this.#snapshot(prefix, signal));
    } finally {
      if (--shared.users === 0) {
        shared.stop.abort();
        if (this.#shared === shared) this.#shared = undefined;
      }
    }
  }

  #follow() {
    const fan = new WatchFan();
    const stop = new AbortController();
    const watch = new EtcdWatch(this.#client, this.#keys, fan, (call) => this.#head(call));
    void watch.run(AbortSignal.any([stop.signal, this.#closing.signal]));
    return { fan, stop, users: 0 };
  }

  async lease(ttl: number, signal?: AbortSignal): Promise<Lease> {
    const call = this.#call(signal);
    const request = { TTL: String(Math.max(1, Math.ceil(ttl / 1000))) };
    const { ID: id } = await this.#client.call("/v3/lease/grant", request, leaseGrantResponse, call);
    return {
      id,
      renew: async (signal) => {
        const { result, error } = await this.#client.call(
          "/v3/lease/keepalive",
          { ID: id },
          keepAliveLine,
          this.#call(signal),
        );
        if (error) throw noService("store-unavailable", `the etcd store cannot renew a lease: ${shown(error.message)}`);
        if (!result || result.TTL <= 0) throw leaseLost();
      },
      revoke: async (signal) => this.#revoke(id, signal),
    };
  }

  async #revoke(id: string, signal: AbortSignal | undefined): Promise<void> {
    try {
      await this.#client.call("/v3/lease/revoke", { ID: id }, anyResponse, this.#call(signal));
    } catch (error) {
      if (!(error instanceof NetworkError && error.code === "lease-lost")) throw error;
    }
    // So that the store's version tells of it.
    await this.transact({}, signal);
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    // No NetworkError: it would say of a transaction under way that nothing was written.
    this.#closing.abort(new Error("the store was closed"));
    this.#shared?.fan.close();
    this.#client.close();
  }

  #open(): void {
    if (this.#closing.signal.aborted) throw closedStore();
  }

  /** @throws NetworkError where the store is closed */
  #call(signal: AbortSignal | undefined): { readonly signal: AbortSignal } {
    this.#open();
    return { signal: signal ? AbortSignal.any([signal, this.#closing.signal]) : this.#closing.signal };
  }

  /** None where it is a key of our own, or nobody's. */
  #entry(kv: KeyValue): readonly StoreEntry[] {
    const key = this.#keys.decode(kv.key);
    return key === undefined ? [] : [{ key, value: parseValue(kv.value), version: kv.mod_revision }];
  }
}
