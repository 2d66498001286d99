import { isDeepStrictEqual } from "node:util";
import type { DriverPeer, NetworkDriver } from "../drivers/driver.ts";
import { errorText } from "../errors.ts";
import type { FirewallPart } from "../linux/firewall.ts";
import { type NamespaceRef, type Plan, plan } from "../linux/plan.ts";
import type { Ip } from "../net/ip.ts";
import { type Context, driverNetwork, isHere, requireHost } from "./context.ts";
import type { EndpointRecord, NetworkRecord } from "./records.ts";
import type { RecordChanges } from "./state.ts";

type EndpointChange = RecordChanges["endpoints"][number];

/** Told of what this host has and knows. */
export interface PresenceListener {
  /** The network is on this host; told again at every endpoint that joins. */
  arrived(network: NetworkRecord): void;
  /** It is about to be removed from this host: lets go of what it holds open there. */
  left(network: string): Promise<void>;
  /** Endpoints of the network on other hosts changed. */
  changed(network: string, changes: readonly EndpointChange[]): void;
}

/** Endpoints elsewhere that are made known to the kernel in one go. */
const piece = 500;

/** Endpoints of a network up to which those on other hosts are made known to the kernel ahead of traffic. */
export const defaultPeersAhead = 4_096;

/**
 * Networks that span hosts, on this one: what a network needs here while an endpoint of it is attached here, and the endpoints
 * attached elsewhere, known to the kernel before traffic needs them. Everything is derived from the records.
 */
export class Presence {
  readonly #context: Context;
  readonly #limit: number;
  /** Hosts that each network's flooding reaches, as programmed. */
  readonly #flooded = new Map<string, readonly Ip[]>();
  /** Networks of which only the endpoints that are asked for are known to the kernel. */
  readonly #onDemand = new Set<string>();
  readonly #parts = new Map<string, FirewallPart>();
  listener: PresenceListener | undefined;

  /** @param peersAhead a network with more endpoints than this is followed on demand */
  constructor(context: Context, peersAhead: number = defaultPeersAhead) {
    this.#context = context;
    this.#limit = peersAhead;
  }

  /** Lock of whoever changes what a network has on this host; sorts after a sandbox's, which is taken first. */
  static lock = (network: string): string => `wiring:${network}`;

  #driver(network: NetworkRecord): NetworkDriver | undefined {
    const driver = this.#context.drivers.get(network.driver);
    return driver?.presence ? driver : undefined;
  }

  /** True where an endpoint of the network is attached here. */
  isPresent(network: string): boolean {
    return this.#context.state.endpointsOf(network).some((endpoint) => isHere(this.#context, endpoint));
  }

  /** Networks that this host has a part in. */
  networks(): readonly NetworkRecord[] {
    return [...this.#context.state.networks.values()].filter(
      (network) => this.#driver(network) && this.isPresent(network.id),
    );
  }

  /** True where the network has so many endpoints that only those asked for are known to the kernel. */
  isOnDemand(network: string): boolean {
    // A network that comes and goes around the limit is not programmed anew each time.
    const limit = this.#onDemand.has(network) ? (this.#limit * 3) / 4 : this.#limit;
    const onDemand = this.#context.state.endpointsOf(network).length > limit;
    if (onDemand) this.#onDemand.add(network);
    else this.#onDemand.delete(network);
    return onDemand;
  }

  /** True where what joins and leaves one of the networks changes more on this host than its own wiring. */
  isSpanning(networks: readonly NetworkRecord[]): boolean {
    return networks.some((network) => this.#driver(network) !== undefined);
  }

  /** Makes what must be there before an endpoint of the network joins, its claim being recorded: everything, for the first one. */
  async prepare(network: NetworkRecord, signal?: AbortSignal): Promise<void> {
    const here = this.#context.state.endpointsOf(network.id).filter((endpoint) => isHere(this.#context, endpoint));
    if (here.length === 1 && this.#driver(network)) await this.make(network, signal);
  }

  /** To be called after that was applied. */
  joined(network: NetworkRecord): void {
    if (this.#driver(network)) this.listener?.arrived(network);
  }

  /** After a join that failed: what the network got here for it goes. */
  async giveUp(network: NetworkRecord): Promise<void> {
    const { firewall, kernel } = this.#context;
    if (this.isSpanning([network])) await firewall.exclusive(() => kernel.teardown(this.leavePlan([network])));
  }

  /** What goes of networks whose last endpoint has left this host, as the records say; to be applied. */
  leavePlan(networks: readonly NetworkRecord[]): Plan {
    return plan(...networks.map((network) => (this.isPresent(network.id) ? plan() : this.#removePlan(network))));
  }

  #removePlan(network: NetworkRecord): Plan {
    const { host, firewall } = this.#context;
    const { presence } = this.#driver(network) ?? {};
    if (!host || !presence) return plan();
    void this.listener?.left(network.id);
    this.#flooded.delete(network.id);
    this.#onDemand.delete(network.id);
    const part = this.#parts.get(network.id);
    this.#parts.delete(network.id);
    if (part) firewall.unregister(part);
    return presence.remove(driverNetwork(this.#context, network), host);
  }

  /** Makes everything that a network has on this host; may be repeated. What a failure leaves, `giveUp` or the next call puts right. */
  async make(network: NetworkRecord, signal?: AbortSignal): Promise<void> {
    const driver = this.#driver(network);
    if (!driver?.presence) return;
    const { kernel } = this.#context;
    const host = requireHost(this.#context, network);
    const view = driverNetwork(this.#context, network);
    this.guard(network);
    const place = this.place(network);
    // Whoever took the namespace's file away did not take what is held open in it: its device would keep the segment's id.
    if (place && !(await kernel.observe(place.namespace, signal))) await this.listener?.left(network.id);
    await kernel.apply(plan(driver.presence.create(view, host), this.peersPlan(network, false)), signal);
    if (this.isOnDemand(network.id)) return;
    const peers = this.#peersOf(network.id);
    // In pieces: plans of tens of thousands of operations cost memory, and others wait for the kernel worker.
    for (let from = 0; from < peers.length; from += piece) {
      const some = peers.slice(from, from + piece);
      await kernel.apply(plan(...some.map((peer) => driver.peers?.add(view, host, peer) ?? plan())), signal);
    }
  }

  /** Notes whom the network floods to, and has its table looked after. */
  guard(network: NetworkRecord): void {
    this.#flooded.set(network.id, vtepsOf(this.#peersOf(network.id)));
    const { host, firewall, firewallTable } = this.#context;
    const { presence } = this.#driver(network) ?? {};
    const table = (): ReturnType<NonNullable<NonNullable<typeof presence>["firewall"]>> =>
      host && presence?.firewall?.(driverNetwork(this.#context, network), host, this.#flooded.get(network.id) ?? []);
    const made = firewallTable === undefined ? undefined : table();
    if (!made || this.#parts.has(network.id)) return;
    const part: FirewallPart = { table: made.table, ruleset: () => table()?.ruleset ?? "" };
    this.#parts.set(network.id, part);
    firewall.register(part);
  }

  /** What `make` applies, to be looked at. */
  plan(network: NetworkRecord): Plan {
    const driver = this.#driver(network);
    if (!driver?.presence) return plan();
    const create = driver.presence.create(driverNetwork(this.#context, network), requireHost(this.#context, network));
    return plan(create, this.peersPlan(network, !this.isOnDemand(network.id)));
  }

  /** The network's endpoints elsewhere (where `ahead`), and the hosts that have them. */
  peersPlan(network: NetworkRecord, ahead: boolean): Plan {
    const { peers: part } = this.#driver(network) ?? {};
    if (!part) return plan();
    const host = requireHost(this.#context, network);
    const view = driverNetwork(this.#context, network);
    const peers = this.#peersOf(network.id);
    const entries = ahead ? peers.map((peer) => part.add(view, host, peer)) : [];
    return plan(...entries, part.hosts(view, host, vtepsOf(peers), []));
  }

  /** The devices that have the entries of endpoints elsewhere. */
  place(network: NetworkRecord): { readonly namespace: string; readonly devices: readonly string[] } | undefined {
    const { host } = this.#context;
    return host && this.#driver(network)?.peers?.place?.(driverNetwork(this.#context, network), host);
  }

  /** Namespaces of this host with entries of endpoints elsewhere. */
  namespaces(): readonly NamespaceRef[] {
    return this.networks().flatMap((network) => this.place(network)?.namespace ?? []);
  }

  /** How this host knows an endpoint that is attached elsewhere, or forgets it; nothing where it need not. */
  peerPlan(endpoint: EndpointRecord, verb: "add" | "remove" = "add"): Plan {
    const network = this.#context.state.networks.get(endpoint.network);
    const peer = this.#peerOf(endpoint);
    const { host } = this.#context;
    if (!network || !peer || !host || !this.isPresent(network.id)) return plan();
    return this.#driver(network)?.peers?.[verb](driverNetwork(this.#context, network), host, peer) ?? plan();
  }

  #peersOf(network: string): readonly DriverPeer[] {
    return this.#context.state.endpointsOf(network).flatMap((endpoint) => this.#peerOf(endpoint) ?? []);
  }

  #peerOf(endpoint: EndpointRecord | undefined): DriverPeer | undefined {
    if (!endpoint?.sandbox || isHere(this.#context, endpoint)) return undefined;
    const { vtep } = endpoint.sandbox;
    const { mac, addresses } = endpoint;
    return vtep === undefined || mac === undefined ? undefined : { vtep, mac, addresses };
  }

  #hasPeerAt(network: string, vtep: Ip): boolean {
    return this.#context.state.endpointsOf(network).some((endpoint) => this.#peerOf(endpoint)?.vtep === vtep);
  }

  /** Follows endpoints that were attached, moved or detached elsewhere. */
  async follow(changes: RecordChanges): Promise<void> {
    const touched = Map.groupBy(changes.endpoints, ({ before, after }) => (after ?? before)?.network ?? "");
    for (const [id, list] of touched) {
      const network = this.#context.state.knownNetwork(id);
      if (!network || !this.#driver(network)?.peers) continue;
      this.listener?.changed(id, list);
      await this.#context.locks.hold([Presence.lock(id)], () => this.#followIn(network, list));
    }
  }

  async #followIn(network: NetworkRecord, changes: readonly EndpointChange[]): Promise<void> {
    const { peers } = this.#driver(network) ?? {};
    const { host, kernel, log, state, firewall } = this.#context;
    if (!peers || !host || !this.isPresent(network.id)) return;
    const view = driverNetwork(this.#context, network);
    const wasOnDemand = this.#onDemand.has(network.id);
    const onDemand = this.isOnDemand(network.id);
    // What is so now counts: a later change may have been programmed already.
    const moved = changes
      .map(({ before, after }) => ({
        old: this.#peerOf(before),
        now: this.#peerOf(state.endpoints.get((after ?? before)?.id ?? "")),
      }))
      .filter(({ old, now }) => !isDeepStrictEqual(old, now));
    // What moves to another host, and what was published anew with the address it had, is replaced, without a moment in between.
    const heirs = byStation(moved.some(({ old }) => old) ? this.#peersOf(network.id) : []);
    const removals = moved.flatMap(({ old }) =>
      old && (onDemand || !heirs.has(stationOf(old))) ? [peers.remove(view, host, old)] : [],
    );
    const next = moved.flatMap(({ old, now }) => [now, old && heirs.get(stationOf(old))]);
    const added = [...byStation(next.filter((peer) => peer !== undefined)).values()];
    const additions = onDemand
      ? []
      : (wasOnDemand ? this.#peersOf(network.id) : added).map((peer) => peers.add(view, host, peer));
    const before = this.#flooded.get(network.id) ?? [];
    const gone = before.filter(
      (vtep) => moved.some(({ old }) => old?.vtep === vtep) && !this.#hasPeerAt(network.id, vtep),
    );
    const kept = before.filter((vtep) => !gone.includes(vtep));
    const vteps = [...new Set([...kept, ...added.map(({ vtep }) => vtep)])].sort();
    const work = async (flood: Plan): Promise<void> => {
      // An address that moved from one endpoint to another is taken from the first before the second gets it.
      await kernel.teardown(plan(...removals));
      await kernel.apply(plan(...additions, flood));
    };
    try {
      if (isDeepStrictEqual(before, vteps)) return await work(plan());
      await firewall.exclusive(async () => {
        this.#flooded.set(network.id, vteps);
        await work(peers.hosts(view, host, vteps, gone));
      });
    } catch (error) {
      // After a reboot the store tells a start of them before `make` has made the network here, with all of them, or what was here goes.
      const place = this.place(network);
      if (place && !(await kernel.isNamespace(place.namespace).catch(() => true))) return;
      log("error", `could not follow the endpoints of network ${network.name} on other hosts: ${errorText(error)}`);
    }
  }
}

/** What is the same for the same addresses, wherever they are. */
const stationOf = ({ mac, addresses }: DriverPeer): string => [mac, ...addresses].join(" ");

const byStation = (peers: readonly DriverPeer[]): ReadonlyMap<string, DriverPeer> =>
  new Map(peers.map((peer) => [stationOf(peer), peer]));

const vtepsOf = (peers: readonly DriverPeer[]): readonly Ip[] => [...new Set(peers.map(({ vtep }) => vtep))].sort();
