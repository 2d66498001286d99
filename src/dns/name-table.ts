import type { Ip } from "../net/ip.ts";
import { type Prefix, prefixContains } from "../net/prefix.ts";

/** What one owner (an endpoint) is called and where it is. */
export interface NameEntry {
  /** The endpoint's own name first: it is what PTR queries are answered with. */
  readonly names: readonly string[];
  readonly addresses: readonly Ip[];
}

export interface ViewNetwork {
  /** The key given to `NameTable.set`. */
  readonly id: string;
  /** The zone: `web` is also `web.<name>`. */
  readonly name: string;
  readonly subnets: readonly Prefix[];
  /** Its endpoints may be on other hosts: what is not known here may have just been published there. */
  readonly spansHosts?: boolean;
}

/** A name that one sandbox alone sees. */
export interface PrivateAlias {
  readonly name: string;
  /** Network id in which `target` is looked up at each query: the alias follows the target. */
  readonly network: string;
  readonly target: string;
}

/** What a sandbox may see of the table. */
export interface ViewScope {
  /** In order of joining: the first that knows a name answers. */
  readonly networks: readonly ViewNetwork[];
  readonly aliases: readonly PrivateAlias[];
  /** The sandbox's own addresses, from which it may ask. */
  readonly addresses: readonly Ip[];
}

/** Names as `answerQuery` asks for them; names come in lower case without a trailing dot. */
export interface Names {
  /** All addresses of a name, both families; undefined where the name is not known. Never empty. */
  lookup(name: string): readonly Ip[] | undefined;
  /** Names `<endpoint>.<network>` of an address. Never empty. */
  reverse(ip: Ip): readonly string[] | undefined;
  /** Whether the name lies below the zone of one of the sandbox's networks. */
  ownsName(name: string): boolean;
  /** Whether the address lies in a subnet of one of the sandbox's networks. */
  ownsAddress(ip: Ip): boolean;
  /** Whether a name that is not known may have been given on another host a moment ago: one label, or below such a network's zone. */
  mayHaveCome(name: string): boolean;
  /** The same of an address. */
  mayHaveComeTo(ip: Ip): boolean;
}

interface NetworkNames {
  readonly owners: Map<string, NameEntry>;
  readonly byName: Map<string, Map<string, readonly Ip[]>>;
  /** Flattened `byName`, filled at the first question after a change. */
  readonly flat: Map<string, readonly Ip[]>;
  /** Owner → endpoint name, per address. */
  readonly byAddress: Map<Ip, Map<string, string>>;
}

/** The form in which names are compared: lower case, no trailing dot. */
export const canonicalName = (name: string): string => (name.endsWith(".") ? name.slice(0, -1) : name).toLowerCase();

/** Names and addresses of all endpoints, per network; one per daemon. */
export class NameTable {
  readonly #networks = new Map<string, NetworkNames>();

  /** Puts an owner's entry in the place of what it had. */
  set(network: string, owner: string, entry: NameEntry): void {
    this.remove(network, owner);
    const known = entry.names.filter((name) => canonicalName(name) !== "");
    const [first] = known;
    if (entry.addresses.length === 0 || first === undefined) return;
    let names = this.#networks.get(network);
    if (!names) {
      names = { owners: new Map(), byName: new Map(), flat: new Map(), byAddress: new Map() };
      this.#networks.set(network, names);
    }
    const addresses = [...new Set(entry.addresses)];
    const kept = { names: [...new Set(known.map(canonicalName))], addresses };
    names.owners.set(owner, kept);
    for (const name of kept.names) {
      put(names.byName, name, owner, addresses);
      names.flat.delete(name);
    }
    for (const address of addresses) put(names.byAddress, address, owner, first.replace(/\.$/, ""));
  }

  /** Forgets an owner; one that is not there is none. */
  remove(network: string, owner: string): void {
    const names = this.#networks.get(network);
    const entry = names?.owners.get(owner);
    if (!names || !entry) return;
    names.owners.delete(owner);
    for (const name of entry.names) {
      drop(names.byName, name, owner);
      names.flat.delete(name);
    }
    for (const address of entry.addresses) drop(names.byAddress, address, owner);
    if (names.owners.size === 0) this.#networks.delete(network);
  }

  /** All addresses of a canonical name in one network, of all its owners; undefined where it is not known. */
  addressesOf(network: string, name: string): readonly Ip[] | undefined {
    const names = this.#networks.get(network);
    const known = names?.flat.get(name);
    if (known || !names) return known;
    const owners = names.byName.get(name);
    if (!owners) return undefined;
    const all = [...new Set([...owners.values()].flat())];
    names.flat.set(name, all);
    return all;
  }

  /** Endpoint names that have an address in one network. */
  namesOf(network: string, address: Ip): readonly string[] | undefined {
    const owners = this.#networks.get(network)?.byAddress.get(address);
    return owners && [...owners.values()];
  }

  /** The table as a sandbox sees it; follows every later change of the table. */
  view(scope: ViewScope): SandboxView {
    return new SandboxView(this, scope);
  }
}

const put = <K, V>(map: Map<K, Map<string, V>>, key: K, owner: string, value: V): void => {
  const owners = map.get(key);
  if (owners) owners.set(owner, value);
  else map.set(key, new Map([[owner, value]]));
};

const drop = <K, V>(map: Map<K, Map<string, V>>, key: K, owner: string): void => {
  const owners = map.get(key);
  if (owners?.delete(owner) && owners.size === 0) map.delete(key);
};

/** What one sandbox sees of the table. */
export class SandboxView implements Names {
  readonly #table: NameTable;
  #networks: readonly (Omit<ViewNetwork, "subnets"> & { readonly suffix: string })[] = [];
  #subnets: readonly Prefix[] = [];
  /** Of networks that span hosts. */
  #wideSubnets: readonly Prefix[] = [];
  #aliases = new Map<string, PrivateAlias[]>();
  #addresses = new Set<string>();

  constructor(table: NameTable, scope: ViewScope) {
    this.#table = table;
    this.update(scope);
  }

  /** Puts another scope in place, after a join or a leave. */
  update(scope: ViewScope): void {
    this.#networks = scope.networks.map(({ subnets: _, ...one }) => ({
      ...one,
      suffix: `.${canonicalName(one.name)}`,
    }));
    this.#subnets = scope.networks.flatMap((network) => network.subnets);
    this.#wideSubnets = scope.networks.flatMap(({ spansHosts, subnets }) => (spansHosts ? subnets : []));
    this.#addresses = new Set(scope.addresses);
    this.#aliases = new Map();
    for (const alias of scope.aliases) {
      const name = canonicalName(alias.name);
      const same = this.#aliases.get(name);
      const kept = { ...alias, target: canonicalName(alias.target) };
      if (same) same.push(kept);
      else this.#aliases.set(name, [kept]);
    }
  }

  /** Whether a packet from this address may be the sandbox's: its own addresses and the loopback. */
  isSource(address: string): boolean {
    return address.startsWith("127.") || this.#addresses.has(address);
  }

  lookup(name: string): readonly Ip[] | undefined {
    const wanted = canonicalName(name);
    const whole = this.#aliased(wanted, undefined) ?? this.#firstNetwork(wanted);
    if (whole || !wanted.includes(".")) return whole;
    for (const { id, suffix } of this.#networks) {
      if (!wanted.endsWith(suffix)) continue;
      const label = wanted.slice(0, -suffix.length);
      const found = this.#aliased(label, id) ?? this.#table.addressesOf(id, label);
      if (found) return found;
    }
    return undefined;
  }

  reverse(ip: Ip): readonly string[] | undefined {
    for (const { id, name } of this.#networks) {
      const names = this.#table.namesOf(id, ip);
      if (names) return names.map((endpoint) => `${endpoint}.${name}`);
    }
    return undefined;
  }

  ownsName(name: string): boolean {
    const wanted = canonicalName(name);
    return this.#networks.some(({ suffix }) => wanted.length > suffix.length && wanted.endsWith(suffix));
  }

  ownsAddress(ip: Ip): boolean {
    return this.#subnets.some((subnet) => prefixContains(subnet, ip));
  }

  mayHaveCome(name: string): boolean {
    const wanted = canonicalName(name);
    const single = wanted !== "" && !wanted.includes(".");
    return this.#networks.some(({ spansHosts, suffix }) => spansHosts && (single || wanted.endsWith(suffix)));
  }

  mayHaveComeTo(ip: Ip): boolean {
    return this.#wideSubnets.some((subnet) => prefixContains(subnet, ip));
  }

  #firstNetwork(name: string): readonly Ip[] | undefined {
    for (const { id } of this.#networks) {
      const found = this.#table.addressesOf(id, name);
      if (found) return found;
    }
    return undefined;
  }

  /** Private aliases come before the networks' names: they are the more special word. */
  #aliased(name: string, network: string | undefined): readonly Ip[] | undefined {
    const aliases = this.#aliases.get(name);
    if (!aliases) return undefined;
    for (const { id } of this.#networks) {
      if (network !== undefined && id !== network) continue;
      const found = new Set<Ip>();
      for (const alias of aliases) {
        if (alias.network !== id) continue;
        for (const ip of this.#table.addressesOf(id, alias.target) ?? []) found.add(ip);
      }
      if (found.size > 0) return [...found];
    }
    return undefined;
  }
}
