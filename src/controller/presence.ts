import { isDeepStrictEqual } from "node:util";
import type { DriverPeer, NetworkDriver } from "../drivers/driver.ts";
import { errorText } from "../errors.ts";
import { type Plan, plan } from "../linux/plan.ts";
import type { Ip } from "../net/ip.ts";
import { type Context, driverNetwork, isHere, requireHost } from "./context.ts";
import type { EndpointRecord, NetworkRecord } from "./records.ts";
import type { RecordChanges } from "./state.ts";

/**
 * Networks that span hosts, on this one: what a network needs here while an endpoint of it is attached here, and the endpoints
 * attached elsewhere, known to the kernel before traffic needs them. Everything is derived from the records.
 */
export class Presence {
  readonly #context: Context;
  /** Hosts that each network's flooding reaches, as programmed. */
  readonly #flooded = new Map<string, readonly Ip[]>();

  constructor(context: Context) {
    this.#context = context;
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

  /** What must be there before an endpoint of the network joins, its claim being recorded: everything, for the first one. */
  joinPlan(network: NetworkRecord): Plan {
    const driver = this.#driver(network);
    if (!driver) return plan();
    const here = this.#context.state.endpointsOf(network.id).filter((endpoint) => isHere(this.#context, endpoint));
    return here.length > 1 ? plan() : this.wholePlan(network);
  }

  /** Everything that a network has on this host, to be applied. May be repeated. */
  wholePlan(network: NetworkRecord): Plan {
    this.#flooded.set(network.id, vtepsOf(this.#peersOf(network.id)));
    return this.plan(network);
  }

  /** The same, to be looked at. */
  plan(network: NetworkRecord): Plan {
    const driver = this.#driver(network);
    if (!driver?.presence) return plan();
    const host = requireHost(this.#context, network);
    const view = driverNetwork(this.#context, network);
    const peers = this.#peersOf(network.id);
    return plan(
      driver.presence.create(view, host),
      ...(driver.peers ? peers.map((peer) => driver.peers?.add(view, host, peer) ?? plan()) : []),
      driver.peers?.hosts(view, host, vtepsOf(peers), []) ?? plan(),
    );
  }

  /** How this host knows an endpoint that is attached elsewhere; nothing where it need not. */
  peerPlan(endpoint: EndpointRecord): Plan {
    const network = this.#context.state.networks.get(endpoint.network);
    const peer = this.#peerOf(endpoint);
    const { host } = this.#context;
    if (!network || !peer || !host || !this.isPresent(network.id)) return plan();
    return this.#driver(network)?.peers?.add(driverNetwork(this.#context, network), host, peer) ?? plan();
  }

  /** What goes when the last endpoint of the network has left this host, as the records say. */
  leavePlan(network: NetworkRecord): Plan {
    const driver = this.#driver(network);
    if (!driver?.presence || !this.#context.host || this.isPresent(network.id)) return plan();
    this.#flooded.delete(network.id);
    return driver.presence.remove(driverNetwork(this.#context, network), this.#context.host);
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

  /** Follows endpoints that were attached, moved or detached elsewhere. */
  async follow(changes: RecordChanges): Promise<void> {
    const touched = new Map<string, { before?: EndpointRecord; after?: EndpointRecord }[]>();
    for (const change of changes.endpoints) {
      const network = (change.after ?? change.before)?.network ?? "";
      const list = touched.get(network) ?? [];
      list.push(change);
      touched.set(network, list);
    }
    for (const [id, list] of touched) {
      const network = this.#context.state.knownNetwork(id);
      if (!network || !this.#driver(network)?.peers) continue;
      await this.#context.locks.hold([Presence.lock(id)], () => this.#followIn(network, list));
    }
  }

  async #followIn(
    network: NetworkRecord,
    changes: readonly { before?: EndpointRecord; after?: EndpointRecord }[],
  ): Promise<void> {
    const { peers } = this.#driver(network) ?? {};
    const { host, kernel, log } = this.#context;
    if (!peers || !host || !this.isPresent(network.id)) return;
    const view = driverNetwork(this.#context, network);
    const moved = changes
      .map(({ before, after }) => ({ old: this.#peerOf(before), now: this.#peerOf(after) }))
      .filter(({ old, now }) => !isDeepStrictEqual(old, now));
    const removals = moved.flatMap(({ old }) => (old ? [peers.remove(view, host, old)] : []));
    const additions = moved.flatMap(({ now }) => (now ? [peers.add(view, host, now)] : []));
    const before = this.#flooded.get(network.id) ?? [];
    const vteps = vtepsOf(this.#peersOf(network.id));
    this.#flooded.set(network.id, vteps);
    const gone = before.filter((vtep) => !vteps.includes(vtep));
    const flood = isDeepStrictEqual(before, vteps) ? plan() : peers.hosts(view, host, vteps, gone);
    try {
      // An address that moved from one endpoint to another is taken from the first before the second gets it.
      await kernel.teardown(plan(...removals));
      await kernel.apply(plan(...additions, flood));
    } catch (error) {
      log("error", `could not follow the endpoints of network ${network.name} on other hosts: ${errorText(error)}`);
    }
  }
}

const vtepsOf = (peers: readonly DriverPeer[]): readonly Ip[] => [...new Set(peers.map(({ vtep }) => vtep))].sort();
