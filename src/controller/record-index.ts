import type * as z from "zod";
import type { Scope } from "../drivers/driver.ts";
import type { AddressSet } from "../ipam/ipam.ts";
import { addressOf } from "../net/prefix.ts";
import type { Json } from "../store/store.ts";
import {
  type EndpointRecord,
  endpointRecord,
  type NetworkRecord,
  networkRecord,
  type SandboxRecord,
  sandboxRecord,
} from "./records.ts";
import { describeUnreadable, type UnreadableRecord } from "./unreadable-record.ts";

const schemas = new Map<string, z.ZodType<Record>>([
  ["networks", networkRecord],
  ["endpoints", endpointRecord],
  ["sandboxes", sandboxRecord],
]);
const schemaOf = (key: string) => schemas.get(key.slice(0, key.indexOf("/")));

/** What the value of a key is: a record, nothing that is kept in records (a guard), or why it should be a record and is none. */
export type ParsedValue = { readonly record?: Record } | { readonly reason: string };
type Record = NetworkRecord | EndpointRecord | SandboxRecord;

export const parseValue = (key: string, value: Json): ParsedValue => {
  const parsed = schemaOf(key)?.safeParse(value);
  if (!parsed) return {};
  if (parsed.success) return { record: parsed.data };
  return { reason: parsed.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`).join("; ") };
};

/** Networks that are remembered after they are gone. */
const goneKept = 256;

/** The validated records with the indexes that reads need, in memory; pure: it is told of records and knows no store. */
export class RecordIndex {
  readonly networks = new Map<string, NetworkRecord>();
  readonly endpoints = new Map<string, EndpointRecord>();
  readonly sandboxes = new Map<string, SandboxRecord>();
  readonly #newAddressSet: () => AddressSet;
  readonly #goneNetworks = new Map<string, NetworkRecord>();
  /** By name; two of one name while what is known is of two different times: the one that stays must be found then. */
  readonly #networksByName = new Map<string, Map<string, NetworkRecord>>();
  readonly #endpointsOf = new Map<string, Map<string, EndpointRecord>>();
  readonly #endpointsByName = new Map<string, Map<string, EndpointRecord>>();
  /** How many endpoints have an address, by network and address: two for a moment, for the same reason. */
  readonly #holders = new Map<string, number>();
  readonly #sandboxByContainer = new Map<string, string>();
  readonly #endpointsIn = new Map<string, Map<string, EndpointRecord>>();
  readonly #taken = new Map<string, AddressSet>();
  /** By key. */
  readonly #unreadable = new Map<string, UnreadableRecord>();

  constructor(newAddressSet: () => AddressSet) {
    this.#newAddressSet = newAddressSet;
  }

  networkNamed(name: string): NetworkRecord | undefined {
    return [...(this.#networksByName.get(name)?.values() ?? [])].at(-1);
  }

  /** The same by id, also for a while after it is gone: what is still to be taken apart was made for it. */
  knownNetwork(id: string): NetworkRecord | undefined {
    return this.networks.get(id) ?? this.#goneNetworks.get(id);
  }

  endpointsOf(network: string): readonly EndpointRecord[] {
    return [...(this.#endpointsOf.get(network)?.values() ?? [])];
  }

  endpointNamed(network: string, name: string): EndpointRecord | undefined {
    return [...(this.#endpointsByName.get(`${network}/${name}`)?.values() ?? [])].at(-1);
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

  /** Records that do not fit their schema. */
  get unreadable(): readonly UnreadableRecord[] {
    return [...this.#unreadable.values()];
  }

  /** The record with this id, or beginning of one, where it cannot be read. */
  unreadableRecord(id: string): UnreadableRecord | undefined {
    if (this.#unreadable.size === 0 || id === "") return undefined;
    return this.unreadable.find((record) => record.id.startsWith(id));
  }

  /** True where the id is that of a record that cannot be read, or of the network of one. */
  isUnreadable(id: string): boolean {
    if (this.#unreadable.size === 0 || id === "") return false;
    return this.unreadable.some((record) => record.id.startsWith(id) || record.network?.startsWith(id));
  }

  /**
   * Takes a record in, in place of what was at its key.
   * @param parsed the value as `parseValue` read it, where that was done already
   * @returns why it was refused, where it does not fit: then nothing is at its key
   */
  protected putRecord(scope: Scope, key: string, value: Json, parsed = parseValue(key, value)): string | undefined {
    this.deleteRecord(key);
    const reason = this.#put(scope, key, parsed);
    if (reason === undefined) return undefined;
    const record = describeUnreadable(scope, key, value, reason);
    this.#unreadable.set(key, record);
    if (record.network !== undefined) for (const ip of record.addresses) this.takenIn(record.network).add(ip);
    return reason;
  }

  #put(scope: Scope, key: string, parsed: ParsedValue): string | undefined {
    if ("reason" in parsed) return parsed.reason;
    const { record } = parsed;
    if (!record) return undefined;
    if (!key.endsWith(`/${record.id}`)) return "id: not the one of its key";
    if ("driver" in record) {
      if (record.scope !== scope) return `scope: ${record.scope} in the store of scope ${scope}`;
      this.#putNetwork(record);
    } else if ("network" in record) this.#putEndpoint(record);
    else if (scope === "local") this.#putSandbox(record);
    else return "a sandbox is always local";
    return undefined;
  }

  #putNetwork(record: NetworkRecord): void {
    this.networks.set(record.id, record);
    nested(this.#networksByName, record.name).set(record.id, record);
    this.#taken.delete(record.id);
    const taken = this.takenIn(record.id);
    for (const endpoint of this.endpointsOf(record.id))
      for (const address of endpoint.addresses) taken.add(addressOf(address));
    for (const subnet of record.subnets) if (subnet.gateway) taken.add(addressOf(subnet.gateway));
    for (const address of Object.values(record.auxiliary)) taken.add(address);
    for (const { network, addresses } of this.#unreadable.values()) {
      if (network === record.id) for (const address of addresses) taken.add(address);
    }
  }

  #putEndpoint(record: EndpointRecord): void {
    this.endpoints.set(record.id, record);
    nested(this.#endpointsOf, record.network).set(record.id, record);
    nested(this.#endpointsByName, `${record.network}/${record.name}`).set(record.id, record);
    if (record.sandbox) nested(this.#endpointsIn, record.sandbox.id).set(record.id, record);
    const taken = this.takenIn(record.network);
    for (const address of record.addresses) {
      const holder = `${record.network}/${addressOf(address)}`;
      this.#holders.set(holder, (this.#holders.get(holder) ?? 0) + 1);
      taken.add(addressOf(address));
    }
  }

  #putSandbox(record: SandboxRecord): void {
    this.sandboxes.set(record.id, record);
    this.#sandboxByContainer.set(record.container, record.id);
  }

  protected deleteRecord(key: string): void {
    const unreadable = this.#unreadable.get(key);
    if (unreadable?.network !== undefined) {
      for (const ip of unreadable.addresses) this.#taken.get(unreadable.network)?.delete(ip);
    }
    this.#unreadable.delete(key);
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
    this.#goneNetworks.set(id, record);
    for (const oldest of this.#goneNetworks.keys()) {
      if (this.#goneNetworks.size <= goneKept) break;
      this.#goneNetworks.delete(oldest);
    }
    removeNested(this.#networksByName, record.name, id);
    this.#taken.delete(id);
  }

  #deleteEndpoint(id: string): void {
    const record = this.endpoints.get(id);
    if (!record) return;
    this.endpoints.delete(id);
    removeNested(this.#endpointsOf, record.network, id);
    removeNested(this.#endpointsByName, `${record.network}/${record.name}`, id);
    if (record.sandbox) removeNested(this.#endpointsIn, record.sandbox.id, id);
    const taken = this.#taken.get(record.network);
    for (const address of record.addresses) {
      const holder = `${record.network}/${addressOf(address)}`;
      const others = (this.#holders.get(holder) ?? 1) - 1;
      if (others > 0) this.#holders.set(holder, others);
      else {
        this.#holders.delete(holder);
        taken?.delete(addressOf(address));
      }
    }
  }

  #deleteSandbox(id: string): void {
    const record = this.sandboxes.get(id);
    if (!record) return;
    this.sandboxes.delete(id);
    if (this.#sandboxByContainer.get(record.container) === id) this.#sandboxByContainer.delete(record.container);
  }
}

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
