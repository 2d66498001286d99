import { isDeepStrictEqual } from "node:util";
import type * as z from "zod";
import type { Scope } from "../drivers/driver.ts";
import { badRequest, NetworkError, noService } from "../errors.ts";
import type { AddressSet } from "../ipam/ipam.ts";
import { addressOf } from "../net/prefix.ts";
import type { Json, Store, StoreEntry, Transaction } from "../store/store.ts";
import {
  type EndpointRecord,
  endpointRecord,
  type NetworkRecord,
  networkRecord,
  type SandboxRecord,
  sandboxRecord,
} from "./records.ts";

/**
 * Desired state in memory: the validated records of both scopes with the indexes that reads need. Everything here is
 * derived from the store; a commit changes the store first, then this.
 */
export class State {
  readonly networks = new Map<string, NetworkRecord>();
  readonly endpoints = new Map<string, EndpointRecord>();
  readonly sandboxes = new Map<string, SandboxRecord>();
  readonly #stores: Readonly<Record<Scope, Store>>;
  readonly #newAddressSet: () => AddressSet;
  readonly #versions = new Map<string, number>();
  readonly #networkByName = new Map<string, string>();
  readonly #endpointsOf = new Map<string, Map<string, EndpointRecord>>();
  readonly #endpointByName = new Map<string, string>();
  readonly #sandboxByContainer = new Map<string, string>();
  readonly #endpointsIn = new Map<string, Map<string, EndpointRecord>>();
  readonly #taken = new Map<string, AddressSet>();
  readonly #onInvalid: (key: string, reason: string) => void;
  /** Keys of transactions whose answer got lost: read again before the next decision is committed. */
  readonly #doubtful: Readonly<Record<Scope, Set<string>>> = { local: new Set(), global: new Set() };

  constructor(options: {
    readonly stores: Readonly<Record<Scope, Store>>;
    readonly newAddressSet: () => AddressSet;
    /** Called for every record that does not fit its schema; it is left in the store and ignored. */
    readonly onInvalid?: (key: string, reason: string) => void;
  }) {
    this.#stores = options.stores;
    this.#newAddressSet = options.newAddressSet;
    this.#onInvalid = options.onInvalid ?? (() => undefined);
  }

  /** Reads everything; call it once before anything else. */
  async load(signal?: AbortSignal): Promise<void> {
    for (const scope of ["local", "global"] as const) {
      // In order of keys: endpoints before networks before sandboxes; indexes do not depend on the order.
      for (const entry of await this.#stores[scope].list(`${scope}/`, signal)) {
        this.#put(scope, entry.key.slice(scope.length + 1), entry);
      }
    }
  }

  networkNamed(name: string): NetworkRecord | undefined {
    return this.networks.get(this.#networkByName.get(name) ?? "");
  }

  endpointsOf(network: string): readonly EndpointRecord[] {
    return [...(this.#endpointsOf.get(network)?.values() ?? [])];
  }

  endpointNamed(network: string, name: string): EndpointRecord | undefined {
    return this.endpoints.get(this.#endpointByName.get(`${network}/${name}`) ?? "");
  }

  sandboxOf(container: string): SandboxRecord | undefined {
    return this.sandboxes.get(this.#sandboxByContainer.get(container) ?? "");
  }

  /** Endpoints attached to a sandbox, in the order they joined. */
  endpointsIn(sandbox: string): readonly EndpointRecord[] {
    const endpoints = [...(this.#endpointsIn.get(sandbox)?.values() ?? [])];
    return endpoints.sort((a, b) => (a.sandbox?.order ?? 0) - (b.sandbox?.order ?? 0));
  }

  /** Addresses in use in a network: endpoints', gateways, auxiliary ones. */
  takenIn(network: string): AddressSet {
    let taken = this.#taken.get(network);
    if (!taken) {
      taken = this.#newAddressSet();
      this.#taken.set(network, taken);
    }
    return taken;
  }

  /** Version of a key as last seen; 0 where it does not exist. */
  version(scope: Scope, key: string): number {
    return this.#versions.get(`${scope}/${key}`) ?? 0;
  }

  /**
   * Commits one transaction; false where a precondition did not hold (what changed has been read again: decide anew).
   * `unchanged` lists keys that must still be at the version last seen; every put of a key that does not exist yet is
   * checked too when it is among them.
   * @throws NetworkError `store-unavailable` where the store does not answer, `invalid-record` (bad request) for a record past
   * the bounds of its schema
   */
  async commit(
    scope: Scope,
    change: {
      readonly unchanged?: readonly string[];
      readonly puts?: readonly { readonly key: string; readonly value: Json }[];
      readonly deletes?: readonly string[];
    },
    signal?: AbortSignal,
  ): Promise<boolean> {
    for (const { key, value } of change.puts ?? []) {
      const reason = reasonAgainst(key, value);
      // A record that cannot be read again would own its name and addresses for ever.
      if (reason !== undefined) throw badRequest("invalid-record", `invalid ${key.split("/")[0]}: ${reason}`);
    }
    if ((await this.#settle(scope, signal)) && (change.unchanged ?? []).length > 0) return false;
    const full = (key: string) => `${scope}/${key}`;
    const transaction: Transaction = {
      checks: (change.unchanged ?? []).map((key) => ({ key: full(key), version: this.version(scope, key) })),
      puts: (change.puts ?? []).map(({ key, value }) => ({ key: full(key), value })),
      deletes: (change.deletes ?? []).map(full),
    };
    const store = this.#stores[scope];
    const written = [...(change.puts ?? []).map(({ key }) => key), ...(change.deletes ?? [])];
    let version: number;
    try {
      const result = await store.transact(transaction, signal);
      if (!result.ok) {
        for (const key of result.conflicts) await this.#refresh(scope, key.slice(scope.length + 1), signal);
        return false;
      }
      version = result.version;
    } catch (cause) {
      // The store says itself why it did not: nothing was sent.
      if (cause instanceof NetworkError) throw cause;
      const found = await committedVersion(store, transaction).catch(() => undefined);
      if (found === undefined) {
        for (const key of written) this.#doubtful[scope].add(key);
        throw signal?.aborted ? cause : unavailable(scope, cause);
      }
      version = found;
    }
    for (const key of change.deletes ?? []) this.#delete(scope, key);
    for (const { key, value } of change.puts ?? []) this.#put(scope, key, { key: full(key), value, version });
    return true;
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
    if (entry) this.#put(scope, key, entry);
    else this.#delete(scope, key);
    return entry;
  }

  async #reread(scope: Scope, prefix: string, signal?: AbortSignal): Promise<void> {
    const entries = await this.#stores[scope].list(`${scope}/${prefix}`, signal);
    const found = new Set(entries.map(({ key }) => key));
    const gone = [...this.#versions.keys()].filter((key) => key.startsWith(`${scope}/${prefix}`) && !found.has(key));
    for (const key of gone) this.#delete(scope, key.slice(scope.length + 1));
    for (const entry of entries) this.#put(scope, entry.key.slice(scope.length + 1), entry);
  }

  #put(scope: Scope, key: string, entry: StoreEntry): void {
    this.#delete(scope, key);
    this.#versions.set(`${scope}/${key}`, entry.version);
    const room = key.slice(0, key.indexOf("/"));
    const parsed = schemaOf(key)?.safeParse(entry.value);
    if (!parsed) return;
    if (!parsed.success) {
      this.#onInvalid(entry.key, reasonsOf(parsed.error));
      return;
    }
    if (!key.endsWith(`/${parsed.data.id}`)) {
      this.#onInvalid(entry.key, "id: not the one of its key");
      return;
    }
    if (room === "networks") this.#putNetwork(parsed.data as NetworkRecord);
    else if (room === "endpoints") this.#putEndpoint(parsed.data as EndpointRecord);
    else this.#putSandbox(parsed.data as SandboxRecord);
  }

  #putNetwork(record: NetworkRecord): void {
    this.networks.set(record.id, record);
    this.#networkByName.set(record.name, record.id);
    this.#taken.delete(record.id);
    const taken = this.takenIn(record.id);
    for (const endpoint of this.endpointsOf(record.id))
      for (const address of endpoint.addresses) taken.add(addressOf(address));
    for (const subnet of record.subnets) if (subnet.gateway) taken.add(addressOf(subnet.gateway));
    for (const address of Object.values(record.auxiliary)) taken.add(address);
  }

  #putEndpoint(record: EndpointRecord): void {
    this.endpoints.set(record.id, record);
    nested(this.#endpointsOf, record.network).set(record.id, record);
    this.#endpointByName.set(`${record.network}/${record.name}`, record.id);
    if (record.sandbox) nested(this.#endpointsIn, record.sandbox.id).set(record.id, record);
    const taken = this.takenIn(record.network);
    for (const address of record.addresses) taken.add(addressOf(address));
  }

  #putSandbox(record: SandboxRecord): void {
    this.sandboxes.set(record.id, record);
    this.#sandboxByContainer.set(record.container, record.id);
  }

  #delete(scope: Scope, key: string): void {
    this.#versions.delete(`${scope}/${key}`);
    const parts = key.split("/");
    const id = parts.at(-1) ?? "";
    if (parts[0] === "networks") this.#deleteNetwork(id);
    else if (parts[0] === "endpoints") this.#deleteEndpoint(id);
    else if (parts[0] === "sandboxes") this.#deleteSandbox(id);
  }

  #deleteNetwork(id: string): void {
    const record = this.networks.get(id);
    if (!record) return;
    this.networks.delete(id);
    if (this.#networkByName.get(record.name) === id) this.#networkByName.delete(record.name);
    this.#taken.delete(id);
  }

  #deleteEndpoint(id: string): void {
    const record = this.endpoints.get(id);
    if (!record) return;
    this.endpoints.delete(id);
    removeNested(this.#endpointsOf, record.network, id);
    const name = `${record.network}/${record.name}`;
    if (this.#endpointByName.get(name) === id) this.#endpointByName.delete(name);
    if (record.sandbox) removeNested(this.#endpointsIn, record.sandbox.id, id);
    const taken = this.#taken.get(record.network);
    for (const address of record.addresses) taken?.delete(addressOf(address));
  }

  #deleteSandbox(id: string): void {
    const record = this.sandboxes.get(id);
    if (!record) return;
    this.sandboxes.delete(id);
    if (this.#sandboxByContainer.get(record.container) === id) this.#sandboxByContainer.delete(record.container);
  }
}

const schemas = new Map<string, z.ZodType<NetworkRecord | EndpointRecord | SandboxRecord>>([
  ["networks", networkRecord],
  ["endpoints", endpointRecord],
  ["sandboxes", sandboxRecord],
]);
const schemaOf = (key: string) => schemas.get(key.slice(0, key.indexOf("/")));
const reasonsOf = (error: z.ZodError): string =>
  error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`).join("; ");

/** Why a value is no record of its key, or undefined where it is. */
const reasonAgainst = (key: string, value: Json): string | undefined => {
  const parsed = schemaOf(key)?.safeParse(value);
  return parsed?.error && reasonsOf(parsed.error);
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
  let version = 0;
  for (const { key, value } of puts) {
    const entry = await store.get(key);
    if (!entry || !isDeepStrictEqual(entry.value, value)) return undefined;
    version = entry.version;
  }
  for (const key of deletes) if (await store.get(key)) return undefined;
  return version;
};

const nested = <T>(map: Map<string, Map<string, T>>, key: string): Map<string, T> => {
  let inner = map.get(key);
  if (!inner) {
    inner = new Map();
    map.set(key, inner);
  }
  return inner;
};

const removeNested = <T>(map: Map<string, Map<string, T>>, key: string, id: string): void => {
  const inner = map.get(key);
  inner?.delete(id);
  if (inner?.size === 0) map.delete(key);
};
