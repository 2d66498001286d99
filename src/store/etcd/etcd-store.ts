import { randomUUID } from "node:crypto";
import { badRequest, NetworkError, noService } from "../../errors.ts";
import { checkTransaction, closedStore } from "../checks.ts";
import type { Lease, Store, StoreEntry, Transaction, TransactionResult, WatchEvent } from "../store.ts";
import { EtcdClient, type EtcdClientOptions, leaseLost, OutOfRange } from "./etcd-client.ts";
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
import { EtcdWatch, type Head } from "./etcd-watch.ts";
import { parseValue } from "./parse-value.ts";
import { type Snapshot, WatchFan } from "./watch-fan.ts";

export interface EtcdStoreOptions extends EtcdClientOptions {
  /** All keys are below `<prefix>/`; `dnet` by default. */
  readonly prefix?: string;
}

/** etcd's own limits (`--max-txn-ops`, `--max-request-bytes`), the latter with room for what is around the values. */
const maxOperations = 128;
const maxBytes = 1_400_000;
/** Entries asked for at once, and bytes of a whole list that we hold. */
const pageSize = 1_000;
const maxListBytes = 256 * 1024 * 1024;

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

  private constructor(options: EtcdStoreOptions) {
    this.#client = new EtcdClient(options);
    this.#keys = new EtcdKeys(options.prefix ?? "dnet");
  }

  /** Does not fail where the servers are away: a watch tells, and every call does. @throws NetworkError `invalid-store` */
  static open(options: EtcdStoreOptions): EtcdStore {
    const { prefix = "dnet", servers } = options;
    if (servers.length === 0) throw badRequest("invalid-store", "invalid store: no server of etcd is given");
    if (prefix === "" || prefix.length > 200 || /[\0-\x1f\x7f]|^\/|\/$/.test(prefix)) {
      throw badRequest("invalid-store", `invalid store: ${JSON.stringify(prefix.slice(0, 100))} is no prefix of keys`);
    }
    return new EtcdStore(options);
  }

  async get(key: string, signal?: AbortSignal): Promise<StoreEntry | undefined> {
    const call = this.#call(signal);
    const { kvs } = await this.#client.call("/v3/kv/range", { key: this.#keys.encode(key) }, rangeResponse, call);
    return kvs.flatMap((kv) => this.#entry(kv) ?? [])[0];
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
        bytes += kv.key.length + kv.value.length;
        entries.push(...(this.#entry(kv) ?? []));
      }
      after = page.kvs.at(-1)?.key;
      if (!page.more || !after) return { version: revision, entries };
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
          this.#bump,
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

  /** Its `mod_revision` is all that is read of it. */
  get #bump() {
    return { request_put: { key: this.#keys.revision, value: base64("null") } };
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
    const call = this.#call(signal);
    const { kvs } = await this.#client.call("/v3/kv/range", { key: this.#keys.revision }, rangeResponse, call);
    return kvs[0]?.mod_revision ?? (await this.#head(call)).version;
  }

  /** Where the store stands; makes its own keys where they are missing. */
  async #head(call: { readonly signal: AbortSignal; readonly server?: string }): Promise<Head> {
    const read = [this.#keys.revision, this.#keys.identity].map((key) => ({ request_range: { key } }));
    // Without a write it is a read, linearizable like any other.
    let found = await this.#client.call("/v3/kv/txn", { success: read }, txnResponse, call);
    const identity = () => found.responses[1]?.response_range?.kvs[0]?.value.toString();
    if (!found.responses[0]?.response_range?.kvs[0] || identity() === undefined) {
      const compare = [{ key: this.#keys.identity, target: "MOD", result: "EQUAL", mod_revision: "0" }];
      const made = { request_put: { key: this.#keys.identity, value: base64(JSON.stringify(randomUUID())) } };
      const success = [this.#bump, made];
      await this.#client.call("/v3/kv/txn", { compare, success, failure: [this.#bump] }, txnResponse, call);
      found = await this.#client.call("/v3/kv/txn", { success: read }, txnResponse, call);
    }
    return {
      revision: found.header.revision,
      version: found.responses[0]?.response_range?.kvs[0]?.mod_revision ?? 0,
      identity: identity() ?? "",
    };
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
        const { result } = await this.#client.call(
          "/v3/lease/keepalive",
          { ID: id },
          keepAliveLine,
          this.#call(signal),
        );
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

  #entry(kv: KeyValue): StoreEntry[] | undefined {
    const key = this.#keys.decode(kv.key);
    return key === undefined ? undefined : [{ key, value: parseValue(kv.value), version: kv.mod_revision }];
  }
}
