import { isDeepStrictEqual } from "node:util";
import type { Scope } from "../drivers/driver.ts";
import { badRequest, NetworkError, noService } from "../errors.ts";
import type { AddressSet } from "../ipam/ipam.ts";
import type { Json, Store, StoreEntry, Transaction, WatchEvent } from "../store/store.ts";
import { type ParsedValue, parseValue, RecordIndex } from "./record-index.ts";
import type { EndpointRecord, NetworkRecord } from "./records.ts";
import { refuseUnreadable } from "./unreadable-record.ts";

/** What others changed, as the records before and after: absent where there is none. */
export interface RecordChanges {
  readonly networks: readonly { readonly before?: NetworkRecord; readonly after?: NetworkRecord }[];
  readonly endpoints: readonly { readonly before?: EndpointRecord; readonly after?: EndpointRecord }[];
}

export interface Change {
  /**
   * Keys that must still be at the version last seen; where it does not exist yet, must still not exist. A record must be known:
   * one that is gone was there when the change was decided on, and putting it again would bring it back without its guards.
   */
  readonly unchanged?: readonly string[];
  /** Keys that must not exist, whatever is known here: what is unique is so because the store says so. */
  readonly absent?: readonly string[];
  readonly puts?: readonly { readonly key: string; readonly value: Json }[];
  readonly deletes?: readonly string[];
}

/** Version of what is only remembered: the store has not been asked yet. */
const remembered = -1;

/** Milliseconds that are spent on learning whether a transaction whose answer got lost was committed. */
const doubtDeadline = 400;

/**
 * Desired state in memory: the records of both scopes. Everything here is derived from the stores: a commit changes the store
 * first, then this; what others commit comes in through `absorb`.
 */
export class State extends RecordIndex {
  readonly #stores: Readonly<Record<Scope, Store>>;
  readonly #versions = new Map<string, number>();
  /** Versions at which keys were deleted that a watch may still speak of. */
  readonly #deleted = new Map<string, number>();
  /** Version up to which the watch of a scope has told everything. */
  readonly #seen: Record<Scope, number> = { local: 0, global: 0 };
  readonly #onInvalid: (key: string, reason: string) => void;
  /** Keys of transactions whose answer got lost: read again before the next decision is committed. */
  readonly #doubtful: Readonly<Record<Scope, Set<string>>> = { local: new Set(), global: new Set() };
  /** Brings a scope up to date with its store in one round trip; without it single keys are read again. */
  catchUp: Partial<Record<Scope, (signal?: AbortSignal) => Promise<void>>> = {};

  /**
   * The same, and what is done about others' changes has been done: names are known and hosts can be reached. Undefined where the
   * scope has one writer, or its store does not answer.
   */
  followed: Partial<Record<Scope, () => Promise<void> | undefined>> = {};

  /** Told of what was read past the watch, which will not tell it again. */
  learned: Partial<Record<Scope, (changes: RecordChanges) => void>> = {};

  constructor(options: {
    readonly stores: Readonly<Record<Scope, Store>>;
    readonly newAddressSet: () => AddressSet;
    /** Called for every record that does not fit its schema; it is left in the store and ignored. */
    readonly onInvalid?: (key: string, reason: string) => void;
  }) {
    super(options.newAddressSet);
    this.#stores = options.stores;
    this.#onInvalid = options.onInvalid ?? (() => undefined);
  }

  /** Reads all of a scope; call it before anything else. */
  async load(scope: Scope, signal?: AbortSignal): Promise<void> {
    // In order of keys: endpoints before networks before sandboxes; indexes do not depend on the order.
    for (const entry of await this.#stores[scope].list(`${scope}/`, signal)) {
      this.#put(scope, bare(scope, entry.key), entry);
    }
  }

  /** Takes in records kept from an earlier run, for as long as the store cannot be asked: whatever it says replaces them. */
  remember(scope: Scope, entries: readonly StoreEntry[]): void {
    for (const { key, value } of entries) this.#put(scope, bare(scope, key), { key, value, version: remembered });
  }

  /** Version of a key as last seen; 0 where it does not exist. */
  version(scope: Scope, key: string): number {
    return this.#versions.get(`${scope}/${key}`) ?? 0;
  }

  /** Every record of a scope as the store holds it, for a copy that outlives the process. */
  entries(scope: Scope): readonly StoreEntry[] {
    const found: StoreEntry[] = [];
    const add = (key: string, value: Json) =>
      found.push({ key: `${scope}/${key}`, value, version: this.version(scope, key) });
    for (const network of this.networks.values()) {
      if (network.scope !== scope) continue;
      add(`networks/${network.id}`, network);
      for (const endpoint of this.endpointsOf(network.id)) add(`endpoints/${network.id}/${endpoint.id}`, endpoint);
    }
    return found;
  }

  /**
   * Commits one transaction. Call it without waiting for anything since the state was read that the change was decided on: the
   * versions checked are those known at the call. False where a precondition did not hold (what changed has been read again: decide anew).
   * @throws NetworkError `store-unavailable` where the store does not answer, `invalid-record` (bad request) for a record past
   * the bounds of its schema
   */
  async commit(scope: Scope, change: Change, signal?: AbortSignal): Promise<boolean> {
    const parsed = (change.puts ?? []).map(({ key, value }) => {
      const found = parseValue(key, value);
      // A record that cannot be read again would own its name and addresses for ever.
      if ("reason" in found) throw badRequest("invalid-record", `invalid ${key.split("/")[0]}: ${found.reason}`);
      return found;
    });
    if ((change.unchanged ?? []).some((key) => isRecord(key) && this.version(scope, key) === 0)) return false;
    const full = (key: string) => `${scope}/${key}`;
    const transaction: Transaction = {
      checks: [
        ...(change.unchanged ?? []).map((key) => ({ key: full(key), version: this.version(scope, key) })),
        ...(change.absent ?? []).map((key) => ({ key: full(key), version: 0 })),
      ],
      puts: (change.puts ?? []).map(({ key, value }) => ({ key: full(key), value })),
      deletes: (change.deletes ?? []).map(full),
    };
    if (this.unreadable.length > 0) await this.#refuseOverUnreadable(scope, change, signal);
    // Decided on what nobody has confirmed: a key that is gone since then would pass for one that never was.
    const unconfirmed = (change.unchanged ?? []).filter((key) => this.version(scope, key) === remembered);
    if (unconfirmed.length > 0) {
      await this.#learn(scope, unconfirmed, signal);
      return false;
    }
    if ((await this.#settle(scope, signal)) && (transaction.checks ?? []).length > 0) return false;
    const store = this.#stores[scope];
    const written = [...(change.puts ?? []).map(({ key }) => key), ...(change.deletes ?? [])];
    let version: number;
    try {
      const result = await store.transact(transaction, signal);
      if (!result.ok) {
        await this.#learn(
          scope,
          result.conflicts.map((key) => bare(scope, key)),
          signal,
        );
        return false;
      }
      version = result.version;
    } catch (cause) {
      // The store says itself why it did not: nothing was written.
      if (cause instanceof NetworkError) throw cause;
      const found = await committedVersion(store, transaction).catch(() => undefined);
      if (found === undefined) {
        for (const key of written) this.#doubtful[scope].add(key);
        throw signal?.aborted ? cause : unavailable(scope, cause);
      }
      version = found;
    }
    for (const key of change.deletes ?? []) this.#delete(scope, key, version);
    for (const [n, { key, value }] of (change.puts ?? []).entries()) {
      this.#put(scope, key, { key: full(key), value, version }, parsed[n]);
    }
    return true;
  }

  /**
   * What a newer version wrote is not overwritten, nor the keys that make its names and addresses its own.
   * @throws NetworkError `newer-record`, `unreadable-record`
   */
  async #refuseOverUnreadable(scope: Scope, change: Change, signal?: AbortSignal): Promise<void> {
    const puts = change.puts ?? [];
    for (const key of [...puts.map(({ key }) => key), ...(change.deletes ?? [])]) {
      const record = this.unreadable.find((other) => other.scope === scope && other.key === key);
      if (record?.newer !== undefined) throw refuseUnreadable(record);
    }
    for (const { key, value } of puts) {
      if (!isGuard(key) || this.version(scope, key) === 0) continue;
      const entry = await this.#stores[scope].get(`${scope}/${key}`, signal);
      const owner = ownerOf(entry?.value);
      const record = owner === ownerOf(value) ? undefined : this.unreadableRecord(owner);
      if (record) throw refuseUnreadable(record);
    }
  }

  /** Learns what became of transactions whose answer got lost; true where that changed what is known. */
  async #settle(scope: Scope, signal?: AbortSignal): Promise<boolean> {
    let changed = false;
    for (const key of this.#doubtful[scope]) {
      const before = this.version(scope, key);
      try {
        await this.#refresh(scope, key, signal);
      } catch (cause) {
        throw cause instanceof NetworkError || signal?.aborted ? cause : unavailable(scope, cause);
      }
      this.#doubtful[scope].delete(key);
      changed ||= this.version(scope, key) !== before;
    }
    return changed;
  }

  async #learn(scope: Scope, conflicts: readonly string[], signal?: AbortSignal): Promise<void> {
    const catchUp = this.catchUp[scope];
    if (catchUp) return catchUp(signal);
    for (const key of conflicts) await this.#refresh(scope, key, signal);
  }

  /** Reads a key again, with the records that it guards: who finds a name taken must know by whom. */
  async #refresh(scope: Scope, key: string, signal?: AbortSignal): Promise<void> {
    const entry = await this.#read(scope, key, signal);
    const [room, network] = key.split("/");
    const owner = (field: string): string => {
      const value = entry?.value;
      const found = typeof value === "object" && value !== null && field in value ? Reflect.get(value, field) : "";
      return typeof found === "string" ? found : "";
    };
    if (room === "pools") await this.#reread(scope, "networks/", signal);
    else if (room === "network-use") await this.#reread(scope, `endpoints/${network}/`, signal);
    else if (!entry) return;
    else if (room === "network-names") await this.#read(scope, `networks/${owner("network")}`, signal);
    else if (room === "endpoint-names" || room === "addresses")
      await this.#read(scope, `endpoints/${network}/${owner("endpoint")}`, signal);
    else if (room === "containers") await this.#read(scope, `sandboxes/${owner("sandbox")}`, signal);
  }

  async #read(scope: Scope, key: string, signal?: AbortSignal): Promise<StoreEntry | undefined> {
    const entry = await this.#stores[scope].get(`${scope}/${key}`, signal);
    const changes = this.#tracking((change) =>
      change(key, () => (entry ? this.#put(scope, key, entry) : this.#delete(scope, key))),
    );
    this.learned[scope]?.(changes);
    return entry;
  }

  async #reread(scope: Scope, prefix: string, signal?: AbortSignal): Promise<void> {
    const entries = await this.#stores[scope].list(`${scope}/${prefix}`, signal);
    const found = new Set(entries.map(({ key }) => key));
    const gone = [...this.#versions.keys()].filter((key) => key.startsWith(`${scope}/${prefix}`) && !found.has(key));
    for (const key of gone) this.#delete(scope, bare(scope, key));
    for (const entry of entries) this.#put(scope, bare(scope, entry.key), entry);
  }

  /**
   * Takes in what a watch tells of a scope; what is known already in the same or a newer version stays.
   * @returns the records that became others, for whoever has to act on them
   */
  absorb(scope: Scope, event: Exclude<WatchEvent, { kind: "lost" }>): RecordChanges {
    // A snapshot from before what was seen already: the store was replaced or restored. What it holds now counts.
    if (event.kind === "snapshot" && event.version < this.#seen[scope]) this.#forgetVersions(scope);
    this.#seen[scope] = event.version;
    const puts = event.kind === "snapshot" ? event.entries : event.puts;
    const deletes = event.kind === "snapshot" ? this.#missing(scope, event.entries, event.version) : event.deletes;
    const changes = this.#tracking((change) => {
      for (const full of deletes) {
        const key = bare(scope, full);
        if (this.version(scope, key) <= event.version) change(key, () => this.#delete(scope, key));
      }
      for (const entry of puts) {
        const key = bare(scope, entry.key);
        const known = Math.max(this.version(scope, key), this.#deleted.get(entry.key) ?? 0);
        if (known < entry.version) change(key, () => this.#put(scope, key, entry));
      }
    });
    for (const [key, version] of this.#deleted) if (version <= event.version) this.#deleted.delete(key);
    return changes;
  }

  /** @returns the records that work made others */
  #tracking(work: (change: (key: string, write: () => void) => void) => void): RecordChanges {
    const networks = new Map<string, { before?: NetworkRecord; after?: NetworkRecord }>();
    const endpoints = new Map<string, { before?: EndpointRecord; after?: EndpointRecord }>();
    work((key, write) => {
      const [room] = key.split("/");
      const id = key.slice(key.lastIndexOf("/") + 1);
      if (room === "networks") track(networks, this.networks, id, write);
      else if (room === "endpoints") track(endpoints, this.endpoints, id, write);
      else write();
    });
    return { networks: [...networks.values()], endpoints: [...endpoints.values()] };
  }

  #forgetVersions(scope: Scope): void {
    for (const versions of [this.#versions, this.#deleted]) {
      for (const key of versions.keys()) if (key.startsWith(`${scope}/`)) versions.set(key, 0);
    }
  }

  /** Keys of a scope that are known and no longer in the store. */
  #missing(scope: Scope, entries: readonly StoreEntry[], version: number): readonly string[] {
    const found = new Set(entries.map(({ key }) => key));
    return [...this.#versions].flatMap(([key, known]) =>
      key.startsWith(`${scope}/`) && known <= version && !found.has(key) ? [key] : [],
    );
  }

  #put(scope: Scope, key: string, entry: StoreEntry, parsed?: ParsedValue): void {
    this.#versions.set(`${scope}/${key}`, entry.version);
    const invalid = this.putRecord(scope, key, entry.value, parsed);
    if (invalid !== undefined) this.#onInvalid(entry.key, invalid);
  }

  #delete(scope: Scope, key: string, version?: number): void {
    this.#versions.delete(`${scope}/${key}`);
    if (version !== undefined && this.catchUp[scope]) this.#deleted.set(`${scope}/${key}`, version);
    this.deleteRecord(key);
  }
}

/** Rooms whose keys make something one record's own. */
const guardRooms: readonly string[] = ["network-names", "segments", "endpoint-names", "addresses", "containers"];
const isGuard = (key: string): boolean => guardRooms.includes(key.slice(0, key.indexOf("/")));

const recordRooms: readonly string[] = ["networks", "endpoints", "sandboxes"];
const isRecord = (key: string): boolean => recordRooms.includes(key.slice(0, key.indexOf("/")));

/** The id in the value of a guard. */
const ownerOf = (value: Json | undefined): string => {
  if (typeof value !== "object" || value === null) return "";
  const [owner] = Object.values(value);
  return typeof owner === "string" ? owner : "";
};

/** The key below the prefix of its scope. */
const bare = (scope: Scope, key: string): string => key.slice(scope.length + 1);

/** Does the work and notes the record before and after; several changes of one record count as one. */
const track = <T>(
  changes: Map<string, { before?: T; after?: T }>,
  records: ReadonlyMap<string, T>,
  id: string,
  work: () => void,
): void => {
  const before = changes.has(id) ? changes.get(id)?.before : records.get(id);
  work();
  const after = records.get(id);
  if (before === after) return;
  changes.set(id, { ...(before !== undefined && { before }), ...(after !== undefined && { after }) });
};

const unavailable = (scope: Scope, cause: unknown) =>
  noService("store-unavailable", `the ${scope} store does not answer`, {
    cause,
    hint: "see the daemon's log for the reason",
  });

/** Version of a transaction whose answer got lost, where the store shows that it was committed. */
const committedVersion = async (
  store: Store,
  { puts = [], deletes = [] }: Transaction,
): Promise<number | undefined> => {
  const signal = AbortSignal.timeout(doubtDeadline);
  let version = 0;
  for (const { key, value } of puts) {
    const entry = await store.get(key, signal);
    if (!entry || !isDeepStrictEqual(entry.value, value)) return undefined;
    version = entry.version;
  }
  for (const key of deletes) if (await store.get(key, signal)) return undefined;
  return version;
};
