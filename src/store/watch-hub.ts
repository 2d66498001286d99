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

  /** Tells every watcher of a change, after the commit. */
  publish(version: number, puts: readonly StoreEntry[], deletes: readonly string[]): void {
    for (const watcher of this.#watchers) {
      const below = (key: string) => key.startsWith(watcher.prefix);
      if (!watcher.overflown) {
        watcher.queue.push({
          kind: "change",
          version,
          puts: puts.filter(({ key }) => below(key)),
          deletes: deletes.filter(below),
        });
        if (watcher.queue.length > queueLimit) {
          watcher.queue = [];
          watcher.overflown = true;
        }
      }
      watcher.wake();
    }
  }

  /** @param snapshot reads version and entries below the prefix, at once: no change may come between them */
  async *watch(
    prefix: string,
    signal: AbortSignal,
    snapshot: () => { readonly version: number; readonly entries: readonly StoreEntry[] },
  ): AsyncIterable<WatchEvent> {
    const watcher: Watcher = { prefix, queue: [], overflown: true, wake: () => undefined };
    const onAbort = () => watcher.wake();
    this.#watchers.add(watcher);
    signal.addEventListener("abort", onAbort);
    try {
      while (!signal.aborted && !this.#closed) {
        if (watcher.overflown) {
          watcher.overflown = false;
          watcher.queue = [];
          yield { kind: "snapshot", ...snapshot() };
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
