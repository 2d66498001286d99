import { setTimeout as delay } from "node:timers/promises";
import { errorText } from "../../errors.ts";
import type { StoreEntry } from "../store.ts";
import type { ConsulClient } from "./consul-client.ts";
import {
  type KeyValue,
  type LogValue,
  leasesRoom,
  logKey,
  type Position,
  parseLog,
  parseRevision,
  revisionKey,
  ringSize,
} from "./consul-layout.ts";
import { maxConsulOperations } from "./consul-operations.ts";

/** What a follower tells, in order. */
export type Told =
  | {
      readonly kind: "change";
      readonly sequence: number;
      readonly version: number;
      readonly puts: readonly (StoreEntry & { readonly lease: string | undefined })[];
      readonly deletes: readonly string[];
    }
  /** The leases that were alive after transaction `sequence`: entries of others, put up to then, are gone. */
  | {
      readonly kind: "leases";
      readonly sequence: number;
      readonly version: number;
      readonly alive: ReadonlySet<string>;
    }
  /** Nobody can say what changed: everything must be listed again. */
  | { readonly kind: "gap" }
  | { readonly kind: "lost"; readonly reason: string }
  /** Everything up to `version` has been told; first, and after a loss. */
  | { readonly kind: "level"; readonly version: number };

/** Milliseconds a query waits for a change: how long a server that hangs can go unnoticed. */
const wait = 10_000;
const shortestRetry = 100;
const longestRetry = 3_000;

/**
 * Follows the transactions of everybody: waits until the revision moves, reads the log's entries since. The work is that of the
 * changes, whatever the store holds. Another query waits for leases that end.
 */
export class ConsulFollower {
  readonly #client: ConsulClient;
  readonly #prefix: string;
  readonly #tell: (told: Told) => void;
  readonly #learn: (position: Position) => void;
  readonly #end = new AbortController();
  readonly #done: Promise<void>;
  /** The last transaction that was told. */
  #at: Position | undefined;
  #lost: string | undefined;
  #doubt: () => void = () => undefined;

  constructor(
    client: ConsulClient,
    options: {
      readonly prefix: string;
      readonly tell: (told: Told) => void;
      readonly learn: (position: Position) => void;
    },
  ) {
    this.#client = client;
    this.#prefix = options.prefix;
    this.#tell = options.tell;
    this.#learn = options.learn;
    this.#done = this.#run();
  }

  /** What one that begins to listen must be told first. */
  get state(): Told | undefined {
    if (this.#lost !== undefined) return { kind: "lost", reason: this.#lost };
    return this.#at && { kind: "level", version: this.#at.index };
  }

  /** Somebody got no answer: look now whether the store is there, instead of when the query's time is over. */
  suspect(): void {
    this.#doubt();
  }

  async stop(): Promise<void> {
    this.#end.abort();
    await this.#done;
  }

  async #run(): Promise<void> {
    const { signal } = this.#end;
    let retry = shortestRetry;
    while (!signal.aborted) {
      const attempt = new AbortController();
      try {
        await this.#follow(AbortSignal.any([signal, attempt.signal]), () => {
          retry = shortestRetry;
        });
      } catch (error) {
        attempt.abort();
        if (signal.aborted) return;
        if (this.#lost === undefined) {
          this.#lost = errorText(error);
          this.#tell({ kind: "lost", reason: this.#lost });
        }
        await delay(retry * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
        retry = Math.min(retry * 2, longestRetry);
      }
    }
  }

  /** Never returns; throws when the store is lost. */
  async #follow(signal: AbortSignal, healthy: () => void): Promise<never> {
    const query = (source: "revision" | "leases", index: number) =>
      quiet(
        this.#client
          .block(this.#prefix + (source === "revision" ? revisionKey : leasesRoom), {
            tree: source === "leases",
            index,
            wait: wait * (0.8 + Math.random() / 5),
            signal,
          })
          .then((answer) => ({ source, asked: index, ...answer })),
      );
    // Where to wait from is asked before what there is, so that no change falls between.
    const [revision, leases] = await Promise.all([query("revision", 0), query("leases", 0)]);
    await this.#compare(signal);
    healthy();
    this.#lost = undefined;
    this.#tell({ kind: "level", version: this.#at?.index ?? 0 });
    let onRevision = query("revision", revision.index);
    let onLeases = query("leases", leases.index);
    for (;;) {
      const doubted = new Promise<undefined>((resolve) => {
        this.#doubt = () => resolve(undefined);
      });
      const woken = await Promise.race([onRevision, onLeases, doubted]);
      if (woken === undefined) {
        await this.#compare(signal);
        continue;
      }
      if (woken.source === "revision") {
        await this.#advance(parseRevision(woken.pairs.find(({ key }) => key === this.#prefix + revisionKey)), signal);
      } else if (woken.index !== woken.asked) {
        await this.#compare(signal);
      }
      // A server that answers at once and says nothing new is not asked at once again.
      if (woken.index === 0) await delay(shortestRetry * Math.random(), undefined, { signal });
      if (woken.source === "revision") onRevision = query("revision", woken.index);
      else onLeases = query("leases", woken.index);
    }
  }

  /** Compares with what the store says at one moment: transactions that are to be told, leases that have ended. */
  async #compare(signal: AbortSignal): Promise<void> {
    const trees = [this.#prefix + revisionKey, this.#prefix + leasesRoom];
    const found = (await this.#client.read({ trees }, { signal })) ?? [];
    const now = parseRevision(found.find(({ key }) => key === trees[0]));
    if (this.#at === undefined) this.#reach(now);
    else if (now.sequence > this.#at.sequence) await this.#catchUp(now, signal);
    else if (now.sequence < this.#at.sequence || now.id !== this.#at.id) this.#skip(now);
    this.#tell({
      kind: "leases",
      sequence: now.sequence,
      version: this.#at?.index ?? 0,
      alive: alive(found, trees[1] ?? ""),
    });
  }

  /** The revision moved, as an answer says that may be from a server which is behind the others. */
  async #advance(now: Position, signal: AbortSignal): Promise<void> {
    const at = this.#at;
    if (at && now.sequence > at.sequence) await this.#catchUp(now, signal);
    else if (now.sequence !== at?.sequence || now.id !== at.id) await this.#compare(signal);
  }

  async #catchUp(now: Position, signal: AbortSignal): Promise<void> {
    while (this.#at && this.#at.sequence < now.sequence) {
      const from = this.#at.sequence + 1;
      if (now.sequence - from >= ringSize) return this.#skip(now);
      const count = Math.min(now.sequence - from + 1, maxConsulOperations);
      const keys = Array.from({ length: count }, (_, n) => this.#prefix + logKey(from + n));
      const found = await this.#client.read({ keys }, { signal });
      for (const pair of found ?? []) {
        const log = parseLog(pair.text);
        if (log?.sequence !== this.#at.sequence + 1 || log.after !== this.#at.id || log.list) return this.#skip(now);
        this.#change(log, pair);
      }
      if (found === undefined) return this.#skip(now);
    }
  }

  #change(log: LogValue, { index: version }: KeyValue): void {
    this.#reach({ sequence: log.sequence, id: log.id, index: version });
    this.#tell({
      kind: "change",
      sequence: log.sequence,
      version,
      // The log's schema says "unknown" of what JSON.parse returned.
      puts: (log.puts ?? []).map(({ key, value, lease }) => ({
        key,
        value: value as StoreEntry["value"],
        version,
        lease,
      })),
      deletes: log.deletes ?? [],
    });
  }

  #skip(now: Position): void {
    this.#reach(now);
    this.#tell({ kind: "gap" });
  }

  #reach(position: Position): void {
    this.#at = position;
    this.#learn(position);
  }
}

const alive = (found: readonly KeyValue[], room: string): ReadonlySet<string> =>
  new Set(
    found.flatMap(({ key, session }) => (key.startsWith(room) && session === key.slice(room.length) ? [session] : [])),
  );

/** A promise that may fail before anybody waits for it. */
const quiet = <T>(promise: Promise<T>): Promise<T> => {
  promise.catch(() => undefined);
  return promise;
};
