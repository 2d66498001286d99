import { setTimeout as delay } from "node:timers/promises";
import { errorText } from "../../errors.ts";
import type { StoreEntry, WatchEvent } from "../store.ts";
import type { Told } from "./consul-follower.ts";

/** Changes kept for a watcher that is slow; past this it lists again. */
const queueLimit = 10_000;
const shortestRetry = 100;
const longestRetry = 3_000;

/** All entries below a prefix at one moment. */
export interface Snapshot {
  readonly sequence: number;
  readonly version: number;
  readonly entries: readonly StoreEntry[];
  /** Lease of each key that has one. */
  readonly leases: ReadonlyMap<string, string>;
}

/** One caller's watch: lists its prefix itself, and after that takes from what the follower tells to all. */
export class ConsulWatch {
  readonly #prefix: string;
  readonly #list: (signal: AbortSignal) => Promise<Snapshot>;
  #queue: Told[] = [];
  #wake: () => void = () => undefined;
  /** Number of the last transaction that was told, or was in the list. */
  #at = -1;
  readonly #leases = new Map<string, string>();

  constructor(prefix: string, list: (signal: AbortSignal) => Promise<Snapshot>) {
    this.#prefix = prefix;
    this.#list = list;
  }

  tell(told: Told): void {
    this.#queue.push(told);
    if (this.#queue.length > queueLimit) this.#queue = [{ kind: "gap" }];
    this.#wake();
  }

  async *events(signal: AbortSignal): AsyncIterable<WatchEvent> {
    let listed = false;
    let lost = false;
    const onAbort = () => this.#wake();
    signal.addEventListener("abort", onAbort);
    try {
      while (!signal.aborted) {
        const told = this.#queue.shift();
        if (told === undefined) {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
        } else if (told.kind === "lost") {
          if (!lost) yield told;
          lost = true;
        } else if (told.kind === "gap" || !listed) {
          for (let retry = shortestRetry; !signal.aborted; retry = Math.min(retry * 2, longestRetry)) {
            const snapshot = await this.#list(signal).catch((error: unknown) => errorText(error));
            if (signal.aborted) return;
            if (typeof snapshot !== "string") {
              listed = true;
              lost = false;
              yield this.#begin(snapshot);
              break;
            }
            if (!lost) yield { kind: "lost", reason: snapshot };
            lost = true;
            await delay(retry * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
          }
        } else {
          const event = this.#event(told, lost);
          if (event) {
            lost = false;
            yield event;
          }
        }
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  #begin({ sequence, version, entries, leases }: Snapshot): WatchEvent {
    this.#at = sequence;
    this.#leases.clear();
    for (const [key, lease] of leases) this.#leases.set(key, lease);
    return { kind: "snapshot", version, entries };
  }

  #event(told: Exclude<Told, { kind: "gap" | "lost" }>, lost: boolean): WatchEvent | undefined {
    const below = (key: string) => key.startsWith(this.#prefix);
    const { version } = told;
    if (told.kind === "level") return lost ? { kind: "change", version, puts: [], deletes: [] } : undefined;
    if (told.kind === "leases") {
      if (told.sequence < this.#at) return undefined;
      const deletes = [...this.#leases].filter(([, lease]) => !told.alive.has(lease)).map(([key]) => key);
      for (const key of deletes) this.#leases.delete(key);
      return deletes.length > 0 ? { kind: "change", version, puts: [], deletes } : undefined;
    }
    if (told.sequence <= this.#at) return undefined;
    this.#at = told.sequence;
    const deletes = told.deletes.filter(below);
    const puts = told.puts.filter(({ key }) => below(key));
    for (const key of deletes) this.#leases.delete(key);
    for (const { key, lease } of puts) {
      if (lease === undefined) this.#leases.delete(key);
      else this.#leases.set(key, lease);
    }
    return { kind: "change", version, puts: puts.map(({ key, value }) => ({ key, value, version })), deletes };
  }
}
