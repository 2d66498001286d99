import { isDeepStrictEqual } from "node:util";
import { type Announced, EndpointGossip, type GossipBus } from "../../cluster/gossip/endpoint-gossip.ts";
import { maxAnnouncementBytes, maxAnnouncements, sizeOf } from "../../cluster/gossip/messages.ts";
import { badRequest, errorText, forbidden, internal, notImplemented } from "../../errors.ts";
import type { Clock } from "../../store/lease-book.ts";
import { MemoryStore } from "../../store/memory/memory-store.ts";
import type {
  Json,
  Lease,
  Put,
  Store,
  StoreEntry,
  Transaction,
  TransactionResult,
  WatchEvent,
} from "../../store/store.ts";
import type { Log } from "../context.ts";
import { endpointKeys } from "../endpoint-manager.ts";
import { type EndpointRecord, endpointRecord, keys, type NetworkRecord } from "../records.ts";
import { OwnRecords } from "./own-records.ts";
import { announcementOf, type Resolved, resolve } from "./resolve.ts";

const scope = "global/";
/** Where the local store keeps what others announced. */
const rememberedPrefix = "announced/";
/** Writes of one transaction to the view; the stores' limit is 4096. */
const batch = 2_000;
/** Aliases that an announcement carries. */
const maxAliases = 64;

/**
 * The global scope without a shared store: this node's networks and endpoints, kept in its local store, and what the other nodes
 * announce of theirs. To its readers it is one store that others write too; what is another node's cannot be written here.
 */
export class StorelessStore implements Store {
  readonly #local: Store;
  readonly #log: Log;
  /** Everything as it is read: derived from the local store and the announcements. */
  readonly #view = new MemoryStore();
  readonly #own = new OwnRecords(scope);
  /** Endpoints of others as shown, by id. */
  readonly #shown = new Map<string, EndpointRecord>();
  /** Names under which this node's endpoints are shown that have lost theirs, by id. */
  readonly #names = new Map<string, string>();
  #remembered: readonly Announced[] = [];
  #gossip: EndpointGossip | undefined;
  #queue: Promise<unknown> = Promise.resolve();
  /** What others announce has changed and is not shown yet. */
  #behind = false;
  #complaints = new Set<string>();

  private constructor(local: Store, log: Log) {
    this.#local = local;
    this.#log = log;
  }

  /** @param local stays the caller's */
  static async open(local: Store, log: Log): Promise<StorelessStore> {
    const store = new StorelessStore(local, log);
    for (const { key, value } of await local.list(scope)) store.#own.set(key, value);
    const remembered = await local.list(rememberedPrefix);
    for (const { value } of remembered) {
      const record = endpointRecord.safeParse(value).data;
      if (record?.announcedBy !== undefined) store.#shown.set(record.id, record);
    }
    store.#remembered = rememberedOf([...store.#shown.values()]);
    const shown = [...store.#shown.values()].flatMap(entriesOf);
    await inBatches(store.#view, { puts: [...store.#own.entries(), ...shown] });
    return store;
  }

  /** Begins to tell the others and to hear them. @param self this node's id */
  connect(
    bus: GossipBus,
    self: string,
    options: { readonly clock?: Clock; readonly random?: () => number } = {},
  ): void {
    this.#gossip = new EndpointGossip({
      ...options,
      bus,
      self,
      own: this.#own.announcements(),
      remembered: this.#remembered,
      onChange: () => this.#catchUp(),
      log: this.#log,
    });
    this.#remembered = [];
    this.#catchUp();
  }

  get(key: string): Promise<StoreEntry | undefined> {
    return this.#view.get(key);
  }

  list(prefix: string): Promise<readonly StoreEntry[]> {
    return this.#view.list(prefix);
  }

  version(): Promise<number> {
    return this.#view.version();
  }

  watch(prefix: string, signal: AbortSignal): AsyncIterable<WatchEvent> {
    return this.#view.watch(prefix, signal);
  }

  /** Of a node alone nothing has to vanish by itself. */
  async lease(): Promise<Lease> {
    throw notImplemented("no-lease", "there are no leases without a shared store");
  }

  /** @throws NetworkError `announced-elsewhere` (forbidden), `announcement-too-large` (bad request) */
  transact(transaction: Transaction): Promise<TransactionResult> {
    return this.#inTurn(() => this.#transact(transaction));
  }

  /** Neither tells nor hears any more; call it before the bus ends. */
  async disconnect(): Promise<void> {
    await this.#gossip?.close();
    await this.#queue;
  }

  async close(): Promise<void> {
    await this.disconnect();
    await this.#view.close();
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#queue.then(work);
    this.#queue = done.catch(() => undefined);
    return done;
  }

  async #transact(transaction: Transaction): Promise<TransactionResult> {
    const { checks = [], puts = [], deletes = [] } = transaction;
    const conflicts: string[] = [];
    for (const { key, version } of checks) {
      if (((await this.#view.get(key))?.version ?? 0) !== version) conflicts.push(key);
    }
    if (conflicts.length > 0) return { ok: false, conflicts: [...new Set(conflicts)] };
    const foreign = this.#foreignOf([...puts.map(({ key }) => key), ...deletes]);
    if (foreign) return this.#forget(foreign, deletes);
    this.#checkSizes(puts);
    const own = this.#ownWrites(puts, deletes);
    const kept = await this.#local.transact(own);
    if (!kept.ok) throw internal("store-unavailable", "the local store refused a change without a reason");
    for (const key of own.deletes) this.#own.delete(key);
    for (const { key, value } of own.puts) this.#own.set(key, value);
    // Endpoints of others go in and out with the network that they belong to.
    const touched = [...puts.map(({ key }) => key), ...deletes].some((key) => key.startsWith(`${scope}networks/`));
    const result = await this.#view.transact({ puts, deletes });
    if (touched) await this.#show();
    this.#gossip?.update(this.#own.announcements());
    return result;
  }

  /** The writes as they are kept: an endpoint that is shown under another name has its own. */
  #ownWrites(puts: readonly Put[], deletes: readonly string[]) {
    const ownName = (key: string): string | undefined =>
      this.#names.has(key.slice(key.lastIndexOf("/") + 1)) && key.startsWith(`${scope}endpoints/`)
        ? this.#own.endpoint(key)?.name
        : undefined;
    return {
      puts: puts.map(({ key, value }) => {
        const name = ownName(key);
        return { key, value: name !== undefined && isObject(value) ? { ...value, name } : value };
      }),
      deletes: deletes.flatMap((key) => {
        const name = ownName(key);
        const [, , network = ""] = key.split("/");
        return name === undefined ? [key] : [key, `${scope}${keys.endpointName(network, name)}`];
      }),
    };
  }

  /** Another node's endpoint among the keys. */
  #foreignOf(written: readonly string[]): EndpointRecord | undefined {
    for (const key of written) {
      const record = this.#shown.get(key.slice(key.lastIndexOf("/") + 1));
      if (record && key === `${scope}${keys.endpoint(record.network, record.id)}`) return record;
    }
    return undefined;
  }

  /** What belongs to a node that is gone can be put out of sight here, until that node is back. */
  async #forget(record: EndpointRecord, deletes: readonly string[]): Promise<TransactionResult> {
    const { announcedBy: node = "", id, name, network } = record;
    const owner = this.#gossip?.nameOf(node) ?? node;
    if (this.#gossip?.isAlive(node) === false && deletes.includes(`${scope}${keys.endpoint(network, id)}`)) {
      this.#gossip.forget(node, id);
      await this.#show();
      return { ok: true, version: await this.#view.version() };
    }
    throw forbidden("announced-elsewhere", `service ${name} belongs to node ${owner}`, {
      hint: `without a shared store a service is attached and unpublished on its own node: ${owner}`,
    });
  }

  #checkSizes(puts: readonly Put[]): void {
    for (const { key, value } of puts) {
      const record = key.startsWith(`${scope}endpoints/`) ? endpointRecord.safeParse(value).data : undefined;
      if (!record) continue;
      if (record.aliases.length > maxAliases || sizeOf(announcementOf(record)) > maxAnnouncementBytes) {
        throw badRequest("announcement-too-large", `service ${record.name} has more names than gossip carries`, {
          hint: `without a shared store its name, aliases and addresses take at most about ${maxAnnouncementBytes - 120} bytes`,
        });
      }
      if (!this.#own.has(key) && this.#own.size >= maxAnnouncements) {
        throw forbidden("too-many-services", `this node has ${maxAnnouncements} services on networks without a store`);
      }
    }
  }

  /** What others announced is shown soon: many announcements at once make one change. */
  #catchUp(): void {
    if (this.#behind) return;
    this.#behind = true;
    void this.#inTurn(() => this.#show()).catch((error: unknown) =>
      this.#log("error", `what other nodes announce could not be taken in: ${errorText(error)}`),
    );
  }

  /** Brings the view in step with what is own and what is announced. */
  async #show(): Promise<void> {
    this.#behind = false;
    const others = this.#gossip?.others() ?? this.#remembered;
    const endpoints = this.#own.endpoints();
    const ids = new Set(endpoints.map(({ id }) => id));
    const wanted = new Map<string, EndpointRecord>();
    const names = new Map<string, string>();
    for (const network of this.#own.networks()) {
      const own = endpoints.filter((endpoint) => endpoint.network === network.id);
      const resolved = resolve(network, own, others, ids);
      this.#complain(network, resolved);
      for (const record of resolved.remote) wanted.set(record.id, record);
      for (const [id, name] of resolved.renamed) names.set(id, name);
    }
    const gone = [...this.#shown.values()].filter(({ id }) => !wanted.has(id));
    const changed = [...wanted.values()].filter((record) => !isDeepStrictEqual(this.#shown.get(record.id), record));
    const renamed = endpoints.filter(({ id }) => names.get(id) !== this.#names.get(id));
    if (gone.length + changed.length + renamed.length === 0) return;
    const before = [
      ...gone,
      ...changed.flatMap(({ id }) => this.#shown.get(id) ?? []),
      ...renamed.map((record) => ({ ...record, name: this.#names.get(record.id) ?? record.name })),
    ];
    const after = [...changed, ...renamed.map((record) => ({ ...record, name: names.get(record.id) ?? record.name }))];
    const puts = new Map(after.flatMap(entriesOf).map((entry) => [entry.key, entry] as const));
    const deletes = new Set(before.flatMap(entriesOf).map(({ key }) => key));
    for (const { id } of gone) this.#shown.delete(id);
    for (const record of changed) this.#shown.set(record.id, record);
    for (const { id, name } of renamed) this.#rename(id, name, names.get(id));
    await inBatches(this.#view, {
      puts: [...puts.values()],
      deletes: [...deletes].filter((key) => !puts.has(key)),
    });
    // So that names and peers are there from the first moment when the daemon starts again.
    const keyOf = ({ network, id }: EndpointRecord) => `${rememberedPrefix}${network}/${id}`;
    await inBatches(this.#local, {
      puts: changed.map((record) => ({ key: keyOf(record), value: record })),
      deletes: gone.map(keyOf),
    });
  }

  #rename(id: string, name: string, shown: string | undefined): void {
    if (shown === undefined) {
      this.#names.delete(id);
      this.#log("info", `service ${name} has its name back`);
      return;
    }
    this.#names.set(id, shown);
    this.#log("warning", `service ${name} is called ${shown} for now: another node published an older ${name}`);
  }

  #complain(network: NetworkRecord, { refused }: Resolved): void {
    for (const { id, reason } of refused) {
      const text = `service ${id.slice(0, 12)} of another node is not shown in network ${network.name}: ${reason}`;
      if (this.#complaints.has(text)) continue;
      if (this.#complaints.size >= 1_000) this.#complaints = new Set();
      this.#complaints.add(text);
      this.#log("warning", `${text}; give each node an --ip-range of its own`);
    }
  }
}

/** All that stands for an endpoint in a store. */
const entriesOf = (record: EndpointRecord): readonly { readonly key: string; readonly value: Json }[] =>
  endpointKeys(record).map((key, n) => ({ key: `${scope}${key}`, value: n === 0 ? record : { endpoint: record.id } }));

/** In several transactions where one would be too large; what goes, goes first. */
const inBatches = async (store: Store, { puts = [], deletes = [] }: Pick<Transaction, "puts" | "deletes">) => {
  if (puts.length + deletes.length <= batch) {
    if (puts.length + deletes.length > 0) await store.transact({ puts, deletes });
    return;
  }
  for (let n = 0; n < deletes.length; n += batch) await store.transact({ deletes: deletes.slice(n, n + batch) });
  for (let n = 0; n < puts.length; n += batch) await store.transact({ puts: puts.slice(n, n + batch) });
};

/** A node's announcements as they were shown last. */
const rememberedOf = (records: readonly EndpointRecord[]): readonly Announced[] => {
  const byNode = Map.groupBy(records, ({ announcedBy = "" }) => announcedBy);
  return [...byNode].map(([node, list]) => {
    const vtep = list.flatMap(({ sandbox }) => sandbox?.vtep ?? [])[0];
    return { node, ...(vtep !== undefined && { vtep }), announcements: list.map(announcementOf) };
  });
};

const isObject = (value: Json): value is { readonly [key: string]: Json } =>
  typeof value === "object" && value !== null && !Array.isArray(value);
