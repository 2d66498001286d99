import { noService } from "../../errors.ts";
import { checkTransaction, closedStore } from "../checks.ts";
import { type Clock, LeaseBook, systemClock } from "../lease-book.ts";
import type { Json, Lease, Store, StoreEntry, Transaction, TransactionResult, WatchEvent } from "../store.ts";
import { WatchHub } from "../watch-hub.ts";

/** Where a fault can be injected: before anything is read or written, or after the commit, when the answer gets lost. */
export type FaultPoint = `before-${"get" | "list" | "version" | "transact" | "lease"}` | "after-transact";

interface Kept {
  readonly text: string;
  readonly version: number;
  readonly lease: string | undefined;
}

/** A store in memory: of what is derived, and for tests, with faults to inject and a clock of the test's own. */
export class MemoryStore implements Store {
  /** Called at every point; what it throws (or rejects with), the operation fails with. */
  fault: (point: FaultPoint) => void | Promise<void> = () => undefined;
  readonly #entries = new Map<string, Kept>();
  readonly #hub = new WatchHub();
  readonly #leases: LeaseBook;
  #version = 0;
  #closed = false;

  constructor(options: { readonly clock?: Clock } = {}) {
    this.#leases = new LeaseBook(options.clock ?? systemClock, (lease) => this.#expire(lease));
  }

  async get(key: string): Promise<StoreEntry | undefined> {
    await this.#reach("before-get");
    return this.#entry(key);
  }

  async list(prefix: string): Promise<readonly StoreEntry[]> {
    await this.#reach("before-list");
    return this.#list(prefix);
  }

  async transact(transaction: Transaction): Promise<TransactionResult> {
    const texts = checkTransaction(transaction);
    await this.#reach("before-transact");
    const { checks = [], puts = [], deletes = [] } = transaction;
    for (const { lease } of puts) {
      if (lease !== undefined && !this.#leases.has(lease)) throw noService("lease-lost", "the lease has expired");
    }
    const conflicts = checks.filter(({ key, version }) => (this.#entries.get(key)?.version ?? 0) !== version);
    if (conflicts.length > 0) return { ok: false, conflicts: [...new Set(conflicts.map(({ key }) => key))] };
    const version = ++this.#version;
    const gone = deletes.filter((key) => this.#entries.delete(key));
    for (const [n, { key, lease }] of puts.entries()) {
      this.#entries.set(key, { text: texts[n] ?? "null", version, lease });
    }
    this.#hub.publish(
      version,
      puts.map(({ key, value }) => ({ key, value, version })),
      gone,
    );
    await this.fault("after-transact");
    return { ok: true, version };
  }

  async version(): Promise<number> {
    await this.#reach("before-version");
    return this.#version;
  }

  watch(prefix: string, signal: AbortSignal): AsyncIterable<WatchEvent> {
    if (this.#closed) throw closedStore();
    return this.#hub.watch(prefix, signal, () => ({ version: this.#version, entries: this.#list(prefix) }));
  }

  async lease(ttl: number): Promise<Lease> {
    await this.#reach("before-lease");
    return this.#leases.grant(ttl);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#leases.close();
    this.#hub.close();
  }

  async #reach(point: FaultPoint): Promise<void> {
    if (this.#closed) throw closedStore();
    await this.fault(point);
  }

  #entry(key: string): StoreEntry | undefined {
    const kept = this.#entries.get(key);
    return kept && { key, value: JSON.parse(kept.text) as Json, version: kept.version };
  }

  #list(prefix: string): readonly StoreEntry[] {
    const keys = [...this.#entries.keys()].filter((key) => key.startsWith(prefix));
    keys.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    return keys.flatMap((key) => this.#entry(key) ?? []);
  }

  #expire(lease: string): void {
    const keys = [...this.#entries].filter(([, kept]) => kept.lease === lease).map(([key]) => key);
    for (const key of keys) this.#entries.delete(key);
    if (keys.length > 0) this.#hub.publish(++this.#version, [], keys);
  }
}
