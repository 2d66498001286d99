import { errorText, NetworkError } from "../errors.ts";
import { type Clock, systemClock } from "../store/lease-book.ts";
import type { Json, Lease, Store, WatchEvent } from "../store/store.ts";
import { Backoff, pause } from "./backoff.ts";
import type { Log } from "./log.ts";
import { aliveKey, alivePrefix, type NodeInfo, type NodeRecord, nodeKey, nodePrefix } from "./node-record.ts";
import { NodeTable } from "./node-table.ts";

export interface NodeRegistryOptions {
  readonly store: Store;
  /** What this node says of itself; `left` is the registry's own. */
  readonly self: Omit<NodeRecord, "left">;
  /** Milliseconds between two signs of life; the lease lasts three times as long, at least 10 s. */
  readonly heartbeat: number;
  readonly log: Log;
  readonly clock?: Clock;
  /** Milliseconds since 1970. */
  readonly now?: () => number;
  /** 0 to 1, for jitter. */
  readonly random?: () => number;
}

type Prefix = typeof nodePrefix | typeof alivePrefix;

const shortestTtl = 10_000;
/** Milliseconds one request to the store may take. */
const requestDeadline = 10_000;

/**
 * Keeps this node registered in a store and follows the others there. Whatever the store does, it goes on trying: a lost lease is
 * replaced, a record that has vanished is written again.
 */
export class NodeRegistry {
  readonly #options: NodeRegistryOptions;
  readonly #clock: Clock;
  readonly #now: () => number;
  readonly #table: NodeTable;
  readonly #abort = new AbortController();
  readonly #listeners = new Set<(prefix: Prefix) => void>();
  readonly #firstWords: Promise<unknown>;
  #self: Omit<NodeRecord, "left">;
  #lease: Lease | undefined;
  /** Wakes the registration loop before its time. */
  #wake: AbortController | undefined;
  #registered = false;
  readonly #lost = new Map<string, string>();
  /** The record must be written with the next heartbeat. */
  #changed = true;
  readonly #running: readonly Promise<void>[];

  constructor(options: NodeRegistryOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#now = options.now ?? Date.now;
    this.#self = options.self;
    const { log } = options;
    this.#table = new NodeTable(this.#now, (key, reason) => log("warning", `store: ${key} is ignored: ${reason}`));
    const heard = ([nodePrefix, alivePrefix] as const).map((prefix) => {
      const { promise, resolve } = Promise.withResolvers<void>();
      return { promise, running: this.#follow(prefix, resolve) };
    });
    const registration = Promise.withResolvers<void>();
    this.#running = [this.#stayRegistered(registration.resolve), ...heard.map(({ running }) => running)];
    this.#firstWords = Promise.all([registration.promise, ...heard.map(({ promise }) => promise)]);
  }

  /** Resolves when this node is registered and the others are known, or after `milliseconds`. @returns whether it is so */
  async ready(milliseconds: number): Promise<boolean> {
    const done = this.#firstWords.then(() => true);
    return Promise.race([done, pause(milliseconds, this.#abort.signal, this.#clock).then(() => false)]);
  }

  nodes(): readonly NodeInfo[] {
    return this.#table.nodes();
  }

  /** Nodes that hold their lease. */
  get aliveCount(): number {
    return this.#table.aliveCount;
  }

  get registered(): boolean {
    return this.#registered;
  }

  /** Why the store cannot be followed; undefined while it can. */
  get lost(): string | undefined {
    return this.#lost.values().next().value;
  }

  /** Calls `listener` after every event of the watch on `nodes/` or `alive/`, heartbeats included. @returns what ends that */
  onChange(listener: (prefix: Prefix) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Changes what this node says of itself. */
  update(change: Partial<Pick<NodeRecord, "serfPort" | "address" | "vtep">>): void {
    this.#self = { ...this.#self, ...change };
    this.#reregister();
  }

  /** Says that this node leaves and gives its lease back; without a store that answers within the deadline (ms) it just ends. */
  async close(deadline = 2_000): Promise<void> {
    if (this.#abort.signal.aborted) return;
    this.#abort.abort();
    const signal = AbortSignal.timeout(deadline);
    const leave = async () => {
      await Promise.all(this.#running);
      if (!this.#registered) return;
      const record = { ...this.#self, left: this.#time() };
      const puts = [{ key: nodeKey(record.id), value: json(record) }];
      await this.#options.store.transact({ puts, deletes: [aliveKey(record.id)] }, signal);
      await this.#lease?.revoke(signal);
    };
    const left = leave().catch((error: unknown) => {
      this.#options.log("debug", `this node could not sign off in the store: ${errorText(error)}`);
    });
    // A store may be deaf to signals, too.
    await Promise.race([left, pause(deadline, new AbortController().signal)]);
  }

  async #stayRegistered(first: () => void): Promise<void> {
    const { log, heartbeat, random } = this.#options;
    const { signal } = this.#abort;
    const backoff = new Backoff(250, Math.max(1_000, Math.min(heartbeat, 10_000)), random);
    let complained = false;
    while (!signal.aborted) {
      this.#wake = new AbortController();
      const wait = AbortSignal.any([signal, this.#wake.signal]);
      try {
        await this.#beat();
        if (!this.#registered || complained) log("info", `registered as node ${this.#self.id}`);
        this.#registered = true;
        complained = false;
        backoff.reset();
        first();
        await pause(heartbeat, wait, this.#clock);
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof NetworkError && error.code === "lease-lost") this.#lease = undefined;
        if (!complained) log("warning", `this node is not registered in the store: ${errorText(error)}; trying again`);
        complained = true;
        await pause(backoff.next(), signal, this.#clock);
      }
    }
  }

  /** One sign of life: lease renewed, or a new one; record and heartbeat written in one transaction. */
  async #beat(): Promise<void> {
    const { store, heartbeat } = this.#options;
    const signal = AbortSignal.any([this.#abort.signal, AbortSignal.timeout(requestDeadline)]);
    const { id } = this.#self;
    if (this.#lease) await this.#lease.renew(signal);
    else this.#lease = await store.lease(Math.max(shortestTtl, 3 * heartbeat), signal);
    const alive = { key: aliveKey(id), value: { heartbeat: this.#time() }, lease: this.#lease.id };
    const known = this.#registered && this.#table.has(id);
    const puts = known && !this.#changed ? [alive] : [{ key: nodeKey(id), value: json(this.#self) }, alive];
    this.#changed = false;
    let written = false;
    try {
      written = (await store.transact({ puts }, signal)).ok;
    } finally {
      // The answer may be lost: nobody knows what the store has.
      if (!written) this.#changed = true;
    }
    if (!written) throw new Error("the store refuses the heartbeat");
  }

  #reregister(): void {
    this.#changed = true;
    this.#wake?.abort();
  }

  async #follow(prefix: Prefix, first: () => void): Promise<void> {
    const { store, log, random } = this.#options;
    const { signal } = this.#abort;
    const backoff = new Backoff(500, 10_000, random);
    while (!signal.aborted) {
      try {
        for await (const event of store.watch(prefix, signal)) {
          this.#take(prefix, event);
          if (event.kind === "snapshot") {
            backoff.reset();
            first();
          }
        }
      } catch (error) {
        if (signal.aborted) return;
        const reason = errorText(error);
        if (!this.#lost.has(prefix))
          log("warning", `${prefix} in the store cannot be followed: ${reason}; trying again`);
        this.#lost.set(prefix, reason);
      }
      await pause(backoff.next(), signal, this.#clock);
    }
  }

  #take(prefix: Prefix, event: WatchEvent): void {
    const { id } = this.#self;
    if (event.kind === "lost") this.#lost.set(prefix, event.reason);
    else this.#lost.delete(prefix);
    const was = this.#table.has(id);
    this.#table.apply(prefix, event);
    // Somebody removed what this node says of itself, or the store lost it.
    if (was && !this.#table.has(id) && !this.#abort.signal.aborted) {
      this.#lease = undefined;
      this.#reregister();
    }
    for (const listener of this.#listeners) {
      try {
        listener(prefix);
      } catch (error) {
        this.#options.log("error", `a listener to the nodes failed: ${errorText(error)}`);
      }
    }
  }

  #time(): string {
    return new Date(this.#now()).toISOString();
  }
}

/** A record as the store takes it: without fields that are undefined. */
const json = (record: NodeRecord): Json => JSON.parse(JSON.stringify(record)) as Json;
