import { errorText } from "../../errors.ts";
import type { StoreEntry, WatchEvent } from "../store.ts";

/** Changes kept for a watcher that is slow, and their size; past either it gets a new snapshot in their place. */
const queueLimit = 10_000;
const queueBytes = 32 * 1024 * 1024;

export interface Change {
  readonly version: number;
  readonly puts: readonly StoreEntry[];
  readonly deletes: readonly string[];
  /** Roughly what it takes in memory. */
  readonly bytes: number;
}

export interface Snapshot {
  readonly version: number;
  readonly entries: readonly StoreEntry[];
}

type Item =
  | ({ readonly kind: "change" } & Change)
  | { readonly kind: "back"; readonly version: number }
  | { readonly kind: "lost"; readonly reason: string };

interface Watcher {
  readonly prefix: string;
  queue: Item[];
  bytes: number;
  /** It needs a snapshot; no change means anything to it before that. */
  stale: boolean;
  /** Version of its snapshot: the stream may come later to what is in there already. */
  from: number;
  wake: () => void;
}

/**
 * Hands one stream of changes, which comes from a server and may be lost, to many watchers: to each its own prefix, a
 * snapshot that it reads itself, and the changes after it.
 */
export class WatchFan {
  readonly #watchers = new Set<Watcher>();
  /** Why the stream is lost; undefined: it is there. */
  #lost: string | undefined;
  /** Whether the stream has begun: a snapshot read before that could miss what comes between them. */
  #begun = false;
  #closed = false;

  /** The stream begins, at a place of its own choice: everybody reads a new snapshot. */
  begin(): void {
    this.#begun = true;
    for (const watcher of this.#watchers) {
      this.#makeStale(watcher);
      watcher.wake();
    }
  }

  publish(change: Change): void {
    for (const watcher of this.#watchers) this.#push(watcher, { kind: "change", ...change }, change.bytes);
  }

  /** The stream is there again, and everything up to the version has been told. */
  back(version: number): void {
    if (this.#lost === undefined) return;
    this.#lost = undefined;
    for (const watcher of this.#watchers) this.#push(watcher, { kind: "back", version }, 0);
  }

  lost(reason: string): void {
    if (this.#lost !== undefined) return;
    this.#lost = reason;
    for (const watcher of this.#watchers) this.#push(watcher, { kind: "lost", reason }, 0);
  }

  #push(watcher: Watcher, item: Item, bytes: number): void {
    if (item.kind === "change" && watcher.stale) return;
    watcher.queue.push(item);
    watcher.bytes += bytes;
    if (watcher.queue.length > queueLimit || watcher.bytes > queueBytes) this.#makeStale(watcher);
    watcher.wake();
  }

  #makeStale(watcher: Watcher): void {
    watcher.stale = true;
    watcher.queue = watcher.queue.filter(({ kind }) => kind === "lost").slice(-1);
    watcher.bytes = 0;
  }

  /** @param snapshot reads what is below the prefix; all changes that the stream told before the call are in it */
  async *watch(
    prefix: string,
    signal: AbortSignal,
    snapshot: (signal: AbortSignal) => Promise<Snapshot>,
  ): AsyncGenerator<WatchEvent> {
    const watcher: Watcher = { prefix, queue: [], bytes: 0, stale: true, from: 0, wake: () => undefined };
    if (this.#lost !== undefined) watcher.queue.push({ kind: "lost", reason: this.#lost });
    const onAbort = () => watcher.wake();
    this.#watchers.add(watcher);
    signal.addEventListener("abort", onAbort);
    const ended = () => signal.aborted || this.#closed;
    try {
      while (!ended()) {
        const items = watcher.queue;
        watcher.queue = [];
        watcher.bytes = 0;
        for (const item of items) {
          if (ended()) return;
          const event = eventFor(watcher, item);
          if (event) yield event;
        }
        if (ended()) return;
        if (watcher.stale && this.#begun && this.#lost === undefined) {
          watcher.stale = false;
          let told: Snapshot;
          try {
            told = await snapshot(signal);
          } catch (error) {
            if (ended()) return;
            watcher.stale = true;
            yield { kind: "lost", reason: errorText(error) };
            await this.#pause(watcher, snapshotRetry);
            continue;
          }
          // Meanwhile the stream may have begun anew, somewhere else.
          if (watcher.stale) continue;
          watcher.from = told.version;
          yield { kind: "snapshot", ...told };
          continue;
        }
        if (watcher.queue.length === 0) await this.#pause(watcher);
      }
    } finally {
      this.#watchers.delete(watcher);
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** Until the watcher is woken, or for a time (ms). */
  async #pause(watcher: Watcher, milliseconds?: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      watcher.wake = resolve;
      if (milliseconds !== undefined) timer = setTimeout(resolve, milliseconds);
      if (this.#closed) resolve();
    });
    clearTimeout(timer);
  }

  close(): void {
    this.#closed = true;
    for (const { wake } of this.#watchers) wake();
  }
}

/** Milliseconds until a snapshot that could not be read is tried again. */
const snapshotRetry = 1_000;

/** What an item says to one watcher; nothing where its snapshot said so already. */
const eventFor = (watcher: Watcher, item: Item): WatchEvent | undefined => {
  if (item.kind === "lost") return item;
  if (watcher.stale) return undefined;
  if (item.kind === "back") {
    return { kind: "change", version: Math.max(item.version, watcher.from), puts: [], deletes: [] };
  }
  if (item.version <= watcher.from) return undefined;
  const below = (key: string) => key.startsWith(watcher.prefix);
  return {
    kind: "change",
    version: item.version,
    puts: item.puts.filter(({ key }) => below(key)),
    deletes: item.deletes.filter(below),
  };
};
