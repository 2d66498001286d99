import { setTimeout as sleep } from "node:timers/promises";
import { errorText } from "../../errors.ts";
import type { StoreEntry } from "../store.ts";
import type { EtcdClient } from "./etcd-client.ts";
import type { EtcdKeys } from "./etcd-keys.ts";
import { type WatchResponse, watchLine } from "./etcd-messages.ts";
import { jsonLines } from "./json-lines.ts";
import { parseValue } from "./parse-value.ts";
import type { WatchFan } from "./watch-fan.ts";

/** Where a store stands. */
export interface Head {
  /** Of the whole etcd. */
  readonly revision: number;
  /** Of the newest transaction. */
  readonly version: number;
  readonly identity: string;
}

/** Milliseconds that a stream may be quiet until its server is asked whether anything was missed. */
const quiet = 2_000;
/** Milliseconds that a stream may take to tell what is written already. */
const lag = 2_000;
/** A stream that lived for this long (ms) has worked: when it breaks, it is opened again at once. */
const stable = 5_000;
const longestPause = 5_000;
/** Of one transaction in parts; etcd's own limit is 1.5 MiB. */
const maxPending = 64 * 1024 * 1024;

/** etcd has forgotten what came after the place where we stand. */
class Compacted extends Error {}

interface Pending {
  readonly revision: number;
  readonly puts: StoreEntry[];
  readonly deletes: string[];
  bytes: number;
}

/** The one watch of a store: follows all its changes and hands them to the fan, over restarts, fail-overs and compactions. */
export class EtcdWatch {
  readonly #client: EtcdClient;
  readonly #keys: EtcdKeys;
  readonly #fan: WatchFan;
  readonly #head: (call: { readonly signal: AbortSignal; readonly server?: string }) => Promise<Head>;
  /** Up to which revision, of which store, everything has been told. */
  #place: { readonly identity: string; readonly revision: number } | undefined;
  /** To be told before a stream that was lost counts as back. */
  #owed = 0;
  #pending: Pending | undefined;
  #heard = 0;

  constructor(client: EtcdClient, keys: EtcdKeys, fan: WatchFan, head: EtcdWatch["head"]) {
    this.#client = client;
    this.#keys = keys;
    this.#fan = fan;
    this.#head = head;
  }

  /** Reads where the store stands, by a linearizable read. */
  get head() {
    return this.#head;
  }

  /** Follows until the signal aborts. Never fails. */
  async run(signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      const began = performance.now();
      try {
        await this.#follow(signal);
      } catch (error) {
        if (signal.aborted) return;
        if (performance.now() - began > stable) failures = 0;
        if (error instanceof Compacted) this.#place = undefined;
        // A server that went away while others are there is no loss.
        if (++failures === 1) continue;
        this.#fan.lost(errorText(error));
        const pause = Math.min(longestPause, 100 * 2 ** Math.min(failures - 2, 10));
        await sleep(pause * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
      }
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const head = await this.#head({ signal });
    if (this.#place?.identity !== head.identity || head.revision < this.#place.revision) {
      this.#place = { identity: head.identity, revision: head.revision };
      this.#fan.begin();
    }
    this.#owed = head.version;
    this.#pending = undefined;
    const { stream, server } = await this.#client.stream(
      "/v3/watch",
      {
        create_request: {
          ...this.#keys.below(""),
          start_revision: String(this.#place.revision + 1),
          progress_notify: true,
          fragment: true,
        },
      },
      signal,
    );
    const over = new AbortController();
    const check = this.#check(server, AbortSignal.any([signal, over.signal])).catch((error: unknown) => {
      if (!over.signal.aborted) stream.destroy(error instanceof Error ? error : new Error(String(error)));
    });
    try {
      for await (const line of jsonLines(stream)) {
        this.#heard = performance.now();
        const { result, error } = watchLine.parse(line);
        if (error) throw new Error(`the etcd store at ${server} ended the watch: ${error.message}`);
        if (result) this.#take(result, server);
      }
    } finally {
      over.abort();
      stream.destroy();
      await check;
    }
    throw new Error(`the etcd store at ${server} ended the watch`);
  }

  /** Asks the stream's server from time to time, for a stream that was cut off without a word is only quiet. Ends by failing. */
  async #check(server: string, signal: AbortSignal): Promise<never> {
    for (;;) {
      await sleep(quiet * (0.75 + Math.random() / 2), undefined, { signal });
      if (performance.now() - this.#heard < quiet) continue;
      const { identity, revision, version } = await this.#head({ signal, server });
      const place = this.#place;
      if (place?.identity !== identity || revision < place.revision) {
        throw new Error(`the etcd store at ${server} was replaced by another one`);
      }
      const end = performance.now() + lag;
      while ((this.#place?.revision ?? 0) < version) {
        if (performance.now() > end) throw new Error(`the etcd store at ${server} does not tell its changes`);
        await sleep(50, undefined, { signal });
      }
    }
  }

  #take(response: WatchResponse, server: string): void {
    if (response.compact_revision > 0) throw new Compacted(`the etcd store at ${server} was compacted`);
    if (response.canceled)
      throw new Error(`the etcd store at ${server} cancelled the watch: ${response.cancel_reason}`);
    for (const { type, kv } of response.events) {
      if (this.#pending && this.#pending.revision !== kv.mod_revision) this.#tell(this.#pending);
      if (kv.mod_revision <= (this.#place?.revision ?? 0)) continue;
      this.#pending ??= { revision: kv.mod_revision, puts: [], deletes: [], bytes: 0 };
      this.#pending.bytes += kv.key.length + kv.value.length + 100;
      if (this.#pending.bytes > maxPending)
        throw new Error(`the etcd store at ${server} tells of too large a transaction`);
      const key = this.#keys.decode(kv.key);
      if (key === undefined) continue;
      if (type === "DELETE") this.#pending.deletes.push(key);
      else this.#pending.puts.push({ key, value: parseValue(kv.value), version: kv.mod_revision });
    }
    // A response has whole revisions ("Atomic" in the guarantees of etcd's watch), unless it is a fragment with more to come.
    if (response.fragment) return;
    if (this.#pending) this.#tell(this.#pending);
    // Without events: everything up to the revision has been told.
    else if (!response.created) this.#advance(response.header.revision);
    if ((this.#place?.revision ?? 0) >= this.#owed) this.#fan.back(this.#place?.revision ?? 0);
  }

  #tell({ revision, puts, deletes, bytes }: Pending): void {
    this.#pending = undefined;
    this.#advance(revision);
    this.#fan.publish({ version: revision, puts, deletes, bytes });
  }

  #advance(revision: number): void {
    if (this.#place && revision > this.#place.revision) this.#place = { ...this.#place, revision };
  }
}
