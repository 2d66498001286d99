import { setTimeout as sleep } from "node:timers/promises";
import { errorText, NetworkError, shown } from "../../errors.ts";
import type { StoreEntry } from "../store.ts";
import { type EtcdCall, type EtcdClient, OutOfRange } from "./etcd-client.ts";
import type { EtcdKeys } from "./etcd-keys.ts";
import { type KeyValue, rangeResponse, type WatchResponse, watchLine } from "./etcd-messages.ts";
import { jsonLines } from "./json-lines.ts";
import { parseValue } from "./parse-value.ts";
import type { WatchFan } from "./watch-fan.ts";

/** Where a store stands. */
export interface Head {
  /** Of the whole etcd. */
  readonly revision: number;
  /** Of the newest transaction. */
  readonly version: number;
  readonly mark: string;
}

/** What the store's own key says: no other history of the store has it at the same revision. */
export const markOf = ({ mod_revision, value }: KeyValue): string => `${mod_revision} ${value.toString("base64")}`;

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
  /** The store's own key, where it was written as well; empty: removed, by somebody else. */
  mark?: string;
  bytes: number;
}

/** The one watch of a store: follows all its changes and hands them to the fan, over restarts, fail-overs and compactions. */
export class EtcdWatch {
  readonly #client: EtcdClient;
  readonly #keys: EtcdKeys;
  readonly #fan: WatchFan;
  readonly #head: (call: EtcdCall) => Promise<Head>;
  /** Up to which revision everything has been told, and what the store's own key said then. */
  #place: { readonly revision: number; readonly mark: string } | undefined;
  /** To be told before a stream that was lost counts as back. */
  #owed = 0;
  #pending: Pending | undefined;
  #heard = 0;

  /** @param head reads where the store stands, by a linearizable read */
  constructor(client: EtcdClient, keys: EtcdKeys, fan: WatchFan, head: (call: EtcdCall) => Promise<Head>) {
    this.#client = client;
    this.#keys = keys;
    this.#fan = fan;
    this.#head = head;
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
    if (this.#place && !(await this.#isKnown(this.#place, signal))) this.#place = undefined;
    const head = await this.#head({ signal });
    if (!this.#place) {
      this.#place = { revision: head.revision, mark: head.mark };
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
        const { data, success } = watchLine.safeParse(line);
        if (!success) throw new Error("a line that is none of etcd's");
        if (data.error) throw new Error(shown(data.error.message));
        if (data.result) this.#take(data.result);
      }
      throw new Error("it was closed");
    } catch (cause) {
      if (cause instanceof Compacted || cause instanceof NetworkError) throw cause;
      throw new Error(`the etcd store at ${server} ended the watch: ${errorText(cause)}`, { cause });
    } finally {
      over.abort();
      stream.destroy();
      await check;
    }
  }

  /** Whether the store has been where we stand; not so an empty one in its place, or one from a backup. */
  async #isKnown({ revision, mark }: { revision: number; mark: string }, signal: AbortSignal): Promise<boolean> {
    const request = { key: this.#keys.revision, revision: String(revision) };
    try {
      const { kvs } = await this.#client.call("/v3/kv/range", request, rangeResponse, { signal });
      return kvs.map(markOf).join() === mark;
    } catch (error) {
      // Compacted since, or still to come there.
      if (error instanceof OutOfRange) return false;
      throw error;
    }
  }

  /** Asks the stream's server from time to time, for a stream that was cut off without a word is only quiet. Ends by failing. */
  async #check(server: string, signal: AbortSignal): Promise<never> {
    for (;;) {
      await sleep(quiet * (0.75 + Math.random() / 2), undefined, { signal });
      if (performance.now() - this.#heard < quiet) continue;
      const { version } = await this.#head({ signal, server });
      const end = performance.now() + lag;
      while ((this.#place?.revision ?? 0) < version) {
        if (performance.now() > end) throw new Error("it does not tell changes");
        await sleep(50, undefined, { signal });
      }
    }
  }

  #take(response: WatchResponse): void {
    if (response.compact_revision > 0) throw new Compacted("the etcd store was compacted");
    if (response.canceled) throw new Error(`cancelled: ${shown(response.cancel_reason)}`);
    for (const { type, kv } of response.events) {
      if (this.#pending && this.#pending.revision !== kv.mod_revision) this.#tell(this.#pending);
      if (kv.mod_revision <= (this.#place?.revision ?? 0)) continue;
      this.#pending ??= { revision: kv.mod_revision, puts: [], deletes: [], bytes: 0 };
      this.#pending.bytes += kv.key.length + kv.value.length + 100;
      if (this.#pending.bytes > maxPending) throw new Error("too large a transaction");
      if (this.#keys.isRevision(kv.key)) this.#pending.mark = type === "PUT" ? markOf(kv) : "";
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

  #tell({ revision, puts, deletes, mark, bytes }: Pending): void {
    this.#pending = undefined;
    this.#advance(revision, mark);
    this.#fan.publish({ version: revision, puts, deletes, bytes });
  }

  #advance(revision: number, mark = this.#place?.mark ?? ""): void {
    if (revision > (this.#place?.revision ?? 0)) this.#place = { revision, mark };
  }
}
