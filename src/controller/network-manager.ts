import type { NetworkDriver, Options, Subnet } from "../drivers/driver.ts";
import { badRequest, forbidden, internal, type NetworkError } from "../errors.ts";
import type { AddressSet, AddressSpace } from "../ipam/ipam.ts";
import type { Observed } from "../linux/kernel.ts";
import { hostNamespace, type Plan } from "../linux/plan.ts";
import { familyOf, type Ip, ipFromBigInt } from "../net/ip.ts";
import {
  type InterfaceAddress,
  type Prefix,
  prefixContains,
  prefixCovers,
  prefixFamily,
  prefixOf,
} from "../net/prefix.ts";
import { type Context, driverNetwork, driverOf, idOfMark, requireNetwork } from "./context.ts";
import type { CreateNetwork, SubnetRequest } from "./model.ts";
import { checkDriverName, checkId, checkNetworkName, newId } from "./names.ts";
import { keys, type NetworkRecord } from "./records.ts";
import { refuseUnreadable } from "./unreadable-record.ts";

/** How often a decision is made anew when another node changed the store first. */
const attempts = 64;

/** Life cycle of networks: pools chosen and recorded in one transaction, then the driver's plan applied. */
export class NetworkManager {
  readonly #context: Context;
  /** Pools of networks whose kernel objects are still being removed: nobody gets them before that is over. */
  readonly #retiring = new Map<string, readonly Prefix[]>();

  constructor(context: Context) {
    this.#context = context;
  }

  async create(request: CreateNetwork, signal?: AbortSignal): Promise<NetworkRecord> {
    const { context, id, name } = {
      context: this.#context,
      id: request.id === undefined ? newId() : checkId(request.id),
      name: checkNetworkName(request.name),
    };
    const driver = driverOf(context, checkDriverName(request.driver ?? context.defaultDriver));
    const wanted = [`driver:${driver.name}:${driver.singleton}`, `network-name:${name}`, `network:${id}`];
    return context.locks.hold(driver.usesIpam ? [...wanted, `pools:${driver.scope}`] : wanted, async () => {
      for (let attempt = 0; attempt < attempts; attempt++) {
        const [chosen, given] = [driver.usesIpam && choosesPool(request), request.subnets?.some(({ pool }) => pool)];
        const host = chosen || given ? await context.kernel.observe(hostNamespace, signal) : undefined;
        const avoid = chosen ? await context.avoid(host, signal) : [];
        const foreign = given ? foreignAddresses(context, host) : [];
        // From here to the commit nothing waits: what is decided on is what is checked.
        const record = this.#decide(id, name, request, avoid);
        refuseOnHost(driver.createNetwork(driverNetwork(context, record)), foreign);
        const segments = segmentKeys(record);
        const committed = await context.state.commit(
          record.scope,
          {
            unchanged: driver.usesIpam ? [keys.pools] : [],
            absent: [keys.network(id), keys.networkName(name), ...segments],
            puts: [
              { key: keys.network(id), value: record },
              { key: keys.networkName(name), value: { network: id } },
              ...segments.map((key) => ({ key, value: { network: id } })),
              ...(driver.usesIpam ? [{ key: keys.pools, value: { changedBy: id } }] : []),
            ],
          },
          signal,
        );
        if (committed) return this.#realise(record, signal);
      }
      throw internal("contention", `network ${name} could not be created: other nodes change the store too often`, {
        hint: "try again",
      });
    });
  }

  /** Everything that can be refused is refused here, before anything is written. */
  #decide(id: string, name: string, request: CreateNetwork, avoid: readonly Prefix[]): NetworkRecord {
    const { state } = this.#context;
    const driver = driverOf(this.#context, request.driver ?? this.#context.defaultDriver);
    if (state.networkNamed(name)) throw forbidden("network-exists", `network with name ${name} already exists`);
    if (state.networks.has(id)) throw forbidden("network-exists", `network with name ${id} already exists`);
    if (driver.singleton && [...state.networks.values()].some((other) => other.driver === driver.name)) {
      throw forbidden("singleton-network", `only one instance of "${driver.name}" network is allowed`);
    }
    const subnets = driver.usesIpam ? this.#subnets(driver.scope, request, avoid) : [];
    const draft: NetworkRecord = {
      version: 1,
      id,
      name,
      driver: driver.name,
      scope: driver.scope,
      internal: request.internal ?? false,
      ipv6: request.ipv6 === true || subnets.some(({ pool }) => prefixFamily(pool) === 6),
      options: { ...request.options },
      labels: { ...request.labels },
      subnets: subnets.map((subnet) => ({ ...subnet })),
      auxiliary: auxiliaryAddresses(request, subnets),
      created: new Date().toISOString(),
    };
    const network = { ...driverNetwork(this.#context, draft), id };
    this.#refuseTakenBridge(draft);
    const options = { ...driver.checkNetwork(network) };
    return { ...draft, options, subnets: this.#withSegments(driver, options, draft.subnets) };
  }

  /** A segment id for every subnet, where the driver's networks have them: those asked for, else the lowest free ones. */
  #withSegments(driver: NetworkDriver, options: Options, subnets: NetworkRecord["subnets"]): NetworkRecord["subnets"] {
    const { segments } = driver;
    if (!segments) return subnets;
    const others = [...this.#context.state.networks.values()].filter((other) => other.driver === driver.name);
    const owner = new Map<number | undefined, string>([
      ...this.#context.state.unreadable.flatMap(({ segments, subject }) =>
        segments.map((vni) => [vni, subject] as const),
      ),
      ...others.flatMap((other) => other.subnets.map(({ vni }) => [vni, other.name] as const)),
    ]);
    const fixed = segments.fixed(options);
    let next = segments.first;
    return subnets.map((subnet, n) => {
      const asked = fixed?.[n];
      if (asked !== undefined && owner.has(asked)) {
        throw forbidden("segment-taken", `segment id ${asked} belongs to network ${owner.get(asked)} already`);
      }
      while (asked === undefined && (owner.has(next) || fixed?.includes(next))) next++;
      if (next > segments.last) throw forbidden("segments-exhausted", "no segment id is left for the network");
      return { ...subnet, vni: asked ?? next++ };
    });
  }

  #refuseTakenBridge(draft: NetworkRecord): void {
    const bridge = this.#firewallOf(draft)?.bridge;
    if (bridge === undefined) return;
    for (const other of this.#context.state.networks.values()) {
      if (this.#bridgeOf(other) === bridge) {
        throw forbidden("bridge-taken", `bridge ${bridge} belongs to network ${other.name} already`);
      }
    }
  }

  /** Undefined too where the driver is not loaded or refuses the record: such a network has no bridge. */
  #bridgeOf(record: NetworkRecord): string | undefined {
    try {
      return this.#firewallOf(record)?.bridge;
    } catch {
      return undefined;
    }
  }

  #firewallOf(record: NetworkRecord) {
    return driverOf(this.#context, record.driver).firewall(driverNetwork(this.#context, record));
  }

  #subnets(space: AddressSpace, request: CreateNetwork, avoid: readonly Prefix[]): readonly Subnet[] {
    const requests: (SubnetRequest & { family: 4 | 6 })[] = (request.subnets ?? []).map((subnet) => ({
      ...subnet,
      family: familyOfRequest(subnet),
    }));
    const given = (family: 4 | 6) => requests.some((subnet) => subnet.family === family);
    if (request.ipv4 === false && (given(4) || !(given(6) || request.ipv6))) {
      throw badRequest("no-family", "invalid network: without IPv4 it needs IPv6, and no IPv4 subnet", {
        hint: "add --ipv6 or an IPv6 --subnet",
      });
    }
    if (request.ipv4 !== false && !given(4)) requests.unshift({ family: 4 });
    if (request.ipv6 && !requests.some(({ family }) => family === 6)) requests.push({ family: 6 });
    const others = [...this.#context.state.networks.values()].filter(({ scope }) => scope === space);
    const pools = [
      ...others.flatMap(({ subnets }) => subnets.map(({ pool }) => pool)),
      ...[...this.#retiring.values()].flat(),
      ...this.#context.state.unreadable.filter(({ scope }) => scope === space).flatMap(({ pools }) => pools),
    ];
    const result: Subnet[] = [];
    for (const { family, pool, range, gateway, auxiliary = {} } of requests) {
      const chosen = this.#context.ipam.choosePool(
        { family, space, ...(pool && { pool }), ...(range && { range }) },
        { pools, avoid },
      );
      if (!chosen) continue;
      pools.push(chosen.pool);
      const clash = Object.entries(auxiliary).find(([, address]) => address === gateway);
      if (clash) {
        throw badRequest("invalid-auxiliary", `invalid auxiliary address: ${clash[0]}=${clash[1]} is the gateway`);
      }
      // The first address of the subnet, not of the range: that is for endpoints.
      const address = this.#context.ipam.chooseAddress(
        { pool: chosen.pool, ...(gateway && { address: gateway }) },
        setAside(new Set(Object.values(auxiliary)), family),
      );
      result.push({ ...chosen, ...(address && { gateway: address }) });
    }
    return result;
  }

  async #realise(record: NetworkRecord, signal?: AbortSignal): Promise<NetworkRecord> {
    const create = driverOf(this.#context, record.driver).createNetwork(driverNetwork(this.#context, record));
    try {
      const part = this.#firewallOf(record);
      await this.#context.firewall.protect(part, create, signal);
      if (part) this.#context.conditions.lookAtOthers();
      return record;
    } catch (error) {
      await this.#forget(record);
      throw error;
    }
  }

  async #forget(record: NetworkRecord): Promise<boolean> {
    const usesPools = record.subnets.length > 0;
    return this.#context.state.commit(record.scope, {
      unchanged: [keys.network(record.id), keys.networkUse(record.id), ...(usesPools ? [keys.pools] : [])],
      deletes: [
        keys.network(record.id),
        keys.networkName(record.name),
        keys.networkUse(record.id),
        ...segmentKeys(record),
      ],
      puts: usesPools ? [{ key: keys.pools, value: { changedBy: record.id } }] : [],
    });
  }

  async delete(id: string): Promise<void> {
    const { context } = this;
    const record = requireNetwork(context, id);
    const driver = driverOf(context, record.driver);
    if (driver.singleton) throw forbidden("network-permanent", `network of type "${record.driver}" cannot be deleted`);
    await context.locks.hold([`network:${id}`, `pools:${record.scope}`], async () => {
      for (let attempt = 0; ; attempt++) {
        requireNetwork(context, id);
        this.#refuseActive(record);
        if (await this.#forget(record)) break;
        if (attempt === attempts)
          throw internal("contention", `network ${record.name} could not be removed`, { hint: "try again" });
      }
      this.#retiring.set(
        id,
        record.subnets.map(({ pool }) => pool),
      );
    });
    try {
      const remove = driver.deleteNetwork(driverNetwork(context, record));
      await context.firewall.release(this.#firewallOf(record), remove);
    } finally {
      this.#retiring.delete(id);
    }
  }

  get context(): Context {
    return this.#context;
  }

  #refuseActive(record: NetworkRecord): NetworkError | undefined {
    const unreadable = this.#context.state.unreadable.find(({ network }) => network === record.id);
    if (unreadable) throw refuseUnreadable(unreadable);
    // Without a shared store another node's endpoints are in that node's network of the same id.
    const own = this.#context.state.endpointsOf(record.id).filter(({ announcedBy }) => announcedBy === undefined);
    const blockers = own.map(({ name }) => name);
    if (blockers.length === 0) return undefined;
    throw forbidden("active-endpoints", `network ${record.name} id ${record.id} has active endpoints`, {
      hint: `unpublish these first: ${blockers.slice(0, 10).join(", ")}${blockers.length > 10 ? ` and ${blockers.length - 10} more` : ""}`,
    });
  }
}

interface ForeignAddress {
  readonly link: string;
  readonly address: InterfaceAddress;
}

/** Addresses of this host on links that are not ours. */
const foreignAddresses = (context: Context, host: Observed | undefined): readonly ForeignAddress[] =>
  (host?.links ?? [])
    .filter(({ alias }) => idOfMark(context, alias) === undefined)
    .flatMap(({ name, addresses }) => addresses.map((address) => ({ link: name, address })));

/**
 * A subnet that another link of this host has already would be reached on one of the two, and rules for it would meet the other's packets.
 * A part of a larger one is another matter: the longer prefix wins.
 */
const refuseOnHost = (create: Plan, foreign: readonly ForeignAddress[]): void => {
  for (const operation of create) {
    if (operation.op !== "address.add" || operation.namespace !== hostNamespace) continue;
    const pool = prefixOf(operation.address);
    const found = foreign.find(({ address }) => prefixCovers(pool, prefixOf(address)));
    if (!found) continue;
    throw forbidden("pool-on-host", `subnet ${pool} is on this host already: ${found.link} has ${found.address}`, {
      hint: "choose another subnet, or none: then one is chosen that is free",
    });
  }
};

/** Addresses of a subnet that has no endpoints yet: only the auxiliary ones are taken. */
const setAside = (auxiliary: ReadonlySet<Ip>, family: 4 | 6): AddressSet => ({
  has: (ip) => auxiliary.has(ip),
  add: () => undefined,
  delete: () => undefined,
  lowestFree(first, last) {
    for (let value = first; value <= last; value++) if (!auxiliary.has(ipFromBigInt(value, family))) return value;
    return undefined;
  },
});

const segmentKeys = ({ driver, subnets }: NetworkRecord): readonly string[] =>
  subnets.flatMap(({ vni }) => (vni === undefined ? [] : [keys.segment(driver, vni)]));

/** True where a default pool is to be chosen. */
const choosesPool = ({ subnets = [], ipv6 }: CreateNetwork): boolean =>
  ipv6 === true || subnets.length === 0 || subnets.some(({ pool }) => pool === undefined || prefixFamily(pool) === 6);

const familyOfRequest = (request: SubnetRequest): 4 | 6 => {
  const families = new Set<4 | 6>();
  if (request.pool) families.add(prefixFamily(request.pool));
  if (request.range) families.add(prefixFamily(request.range));
  if (request.gateway) families.add(familyOf(request.gateway));
  if (families.size > 1)
    throw badRequest("mixed-families", "invalid subnet: its pool, range and gateway are not of one address family");
  return [...families][0] ?? 4;
};

/** Auxiliary addresses of all subnets; each must lie in a pool of the network. */
const auxiliaryAddresses = (request: CreateNetwork, subnets: readonly Subnet[]): Record<string, Ip> => {
  const result: Record<string, Ip> = {};
  for (const { auxiliary = {} } of request.subnets ?? []) {
    for (const [name, address] of Object.entries(auxiliary)) {
      if (!subnets.some(({ pool }) => prefixContains(pool, address))) {
        throw badRequest(
          "invalid-auxiliary",
          `invalid auxiliary address: ${name}=${address} is in no subnet of the network`,
        );
      }
      result[name] = address;
    }
  }
  return result;
};
