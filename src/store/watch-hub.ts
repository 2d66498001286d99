import type { StoreEntry, WatchEvent } from "./store.ts";

/** Changes kept for a watcher that is slow; past this it gets a new snapshot in their place. */
const queueLimit = 10_000;

interface Watcher {
  readonly prefix: string;
  queue: WatchEvent[];
  overflown: boolean;
  wake: () => void;
}

/** Hands the changes of a store in this process to its watchers, in order. */
export class WatchHub {
  readonly #watchers = new Set<Watcher>();
  #closed = false;

  /** Tells every watcher whose prefix fits, after the commit. */
  publish(events: readonly Exclude<WatchEvent, { kind: "snapshot" }>[]): void {
    for (const watcher of this.#watchers) {
      for (const event of events) {
        const key = event.kind === "put" ? event.entry.key : event.key;
        if (!key.startsWith(watcher.prefix) || watcher.overflown) continue;
        if (watcher.queue.length < queueLimit) watcher.queue.push(event);
        else {
          watcher.queue = [];
          watcher.overflown = true;
        }
      }
      if (watcher.queue.length > 0 || watcher.overflown) watcher.wake();
    }
  }

  /** @param list reads all entries below the prefix, at once: no change may come between it and the watcher's registration */
  async *watch(prefix: string, signal: AbortSignal, list: () => readonly StoreEntry[]): AsyncIterable<WatchEvent> {
    const watcher: Watcher = { prefix, queue: [], overflown: true, wake: () => undefined };
    const onAbort = () => watcher.wake();
    this.#watchers.add(watcher);
    signal.addEventListener("abort", onAbort);
    try {
      while (!signal.aborted && !this.#closed) {
        if (watcher.overflown) {
          watcher.overflown = false;
          watcher.queue = [];
          yield { kind: "snapshot", entries: list() };
          continue;
        }
        const events = watcher.queue;
        watcher.queue = [];
        for (const event of events) {
          if (signal.aborted) return;
          yield event;
        }
        if (events.length > 0 || watcher.overflown) continue;
        await new Promise<void>((resolve) => {
          watcher.wake = resolve;
        });
      }
    } finally {
      this.#watchers.delete(watcher);
      signal.removeEventListener("abort", onAbort);
    }
  }

  close(): void {
    this.#closed = true;
    for (const { wake } of this.#watchers) wake();
  }
}
