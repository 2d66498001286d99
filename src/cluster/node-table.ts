import type { StoreEntry, WatchEvent } from "../store/store.ts";
import {
  type AliveRecord,
  type alivePrefix,
  aliveRecordSchema,
  type NodeInfo,
  type NodeRecord,
  nodePrefix,
  nodeRecordSchema,
} from "./node-record.ts";

/** As many nodes are followed; more than anybody runs, so that a broken store cannot fill the memory. */
const maxNodes = 10_000;

/** Heartbeats of a node that its clock is told by: one that comes late makes it look slow, and most do not. */
const heartbeatsKept = 3;

/** The nodes of a store, kept by its watch events. What is no valid record counts as absent. */
export class NodeTable {
  readonly #now: () => number;
  readonly #refused: (key: string, reason: string) => void;
  readonly #records = new Map<string, NodeRecord>();
  readonly #alive = new Map<string, AliveRecord>();
  /** When a node was first seen without its lease (ISO), and its last heartbeat. */
  /** What each node's clock was ahead of ours when its last heartbeats came in, in milliseconds. */
  readonly #ahead = new Map<string, readonly number[]>();
  readonly #gone = new Map<string, { readonly since: string; readonly heartbeat?: string }>();

  /** @param refused is told of every record that is not valid */
  constructor(now: () => number, refused: (key: string, reason: string) => void) {
    this.#now = now;
    this.#refused = refused;
  }

  /** Takes an event of the watch on `nodes/` or `alive/`. */
  apply(prefix: typeof nodePrefix | typeof alivePrefix, event: WatchEvent): void {
    if (event.kind === "lost") return;
    if (event.kind === "snapshot") {
      const there = new Set(event.entries.map(({ key }) => key));
      const known = prefix === nodePrefix ? this.#records : this.#alive;
      for (const id of [...known.keys()]) if (!there.has(prefix + id)) this.#delete(prefix, id);
      for (const entry of event.entries) this.#put(prefix, entry);
    } else {
      for (const key of event.deletes) this.#delete(prefix, key.slice(prefix.length));
      for (const entry of event.puts) {
        this.#put(prefix, entry);
        if (prefix !== nodePrefix) this.#hear(entry.key.slice(prefix.length));
      }
    }
    this.#settle();
  }

  has(id: string): boolean {
    return this.#records.has(id) && this.#alive.has(id);
  }

  get aliveCount(): number {
    return [...this.#records.keys()].filter((id) => this.#alive.has(id)).length;
  }

  /** In order of name, then id. */
  nodes(): readonly NodeInfo[] {
    return [...this.#records.values()]
      .map((record) => this.#info(record))
      .sort((a, b) => (a.name === b.name ? (a.id < b.id ? -1 : 1) : a.name < b.name ? -1 : 1));
  }

  #info({ version: _version, left, ...record }: NodeRecord): NodeInfo {
    const alive = this.#alive.get(record.id);
    const ahead = this.#ahead.get(record.id);
    if (alive) {
      const { heartbeat } = alive;
      return {
        ...record,
        state: "alive",
        since: record.started,
        heartbeat,
        ...(ahead && { skew: Math.max(...ahead) }),
      };
    }
    if (left !== undefined) return { ...record, state: "left", since: left };
    const gone = this.#gone.get(record.id);
    return { ...record, state: "gone", ...(gone ?? { since: record.started }) };
  }

  #put(prefix: string, { key, value }: StoreEntry): void {
    const id = key.slice(prefix.length);
    const schema = prefix === nodePrefix ? nodeRecordSchema : aliveRecordSchema;
    const checked = schema.safeParse(value);
    if (!checked.success || ("id" in checked.data && checked.data.id !== id)) {
      this.#refused(key, checked.error?.issues[0]?.message ?? "it carries another node's id");
      this.#delete(prefix, id);
      return;
    }
    const known: Map<string, unknown> = prefix === nodePrefix ? this.#records : this.#alive;
    if (known.size >= maxNodes && !known.has(id)) this.#refused(key, `more than ${maxNodes} nodes`);
    else known.set(id, checked.data);
  }

  /** A heartbeat has just come in. What a snapshot has may be old, and tells nothing of clocks. */
  #hear(id: string): void {
    const alive = this.#alive.get(id);
    if (!alive) return;
    const known = this.#ahead.get(id) ?? [];
    this.#ahead.set(id, [...known, Date.parse(alive.heartbeat) - this.#now()].slice(-heartbeatsKept));
  }

  #delete(prefix: string, id: string): void {
    if (prefix !== nodePrefix) this.#ahead.delete(id);
    if (prefix === nodePrefix) this.#records.delete(id);
    else {
      const last = this.#alive.get(id);
      if (!last) return;
      this.#alive.delete(id);
      this.#gone.set(id, { since: this.#time(), heartbeat: last.heartbeat });
    }
  }

  /** Notes since when a node is gone; forgets that of nodes that are back or have no record. */
  #settle(): void {
    for (const id of [...this.#gone.keys()]) {
      if (this.#alive.has(id) || !this.#records.has(id)) this.#gone.delete(id);
    }
    for (const id of this.#records.keys()) {
      if (!this.#alive.has(id) && !this.#gone.has(id)) this.#gone.set(id, { since: this.#time() });
    }
  }

  #time(): string {
    return new Date(this.#now()).toISOString();
  }
}
