import { errorText, noService } from "../errors.ts";
import { type Ip, tryParseIp } from "../net/ip.ts";
import type { Store } from "../store/store.ts";
import { pause } from "./backoff.ts";
import { bootId } from "./boot-id.ts";
import type { ClusterOptions, SerfOptions, StorePlace } from "./cluster-options.ts";
import { type DiscoverySpec, parseDiscovery, samePlace, tryParseDiscovery } from "./discovery.ts";
import type { JoinAddress } from "./join-address.ts";
import { type ClusterNode, mergeNodes, type NodeTags } from "./merge-nodes.ts";
import { followNodeFile } from "./node-file.ts";
import { alivePrefix, type NodeRecord } from "./node-record.ts";
import { NodeRegistry } from "./node-registry.ts";
import { findProgram, SerfAgent } from "./serf/agent.ts";
import { checkEncryptKey } from "./serf/agent-config.ts";
import type { QueryHandler, UserEventHandler } from "./serf/handlers.ts";
import type { MembershipEvent } from "./serf/member-table.ts";
import { Membership, type QueryAnswer } from "./serf/membership.ts";
import type { Member } from "./serf/messages.ts";

const standardHeartbeat = 10_000;
/** Milliseconds that a start waits for the store; after that it goes on, and the registration is tried again and again. */
const readyDeadline = 2_000;

/**
 * The nodes of a cluster: who registers in the store, who is a member of the gossip, how far away they are. It survives the store,
 * the agent and whatever the others send.
 */
export class Cluster {
  readonly #options: ClusterOptions;
  readonly #record: Omit<NodeRecord, "left">;
  readonly #registries: NodeRegistry[] = [];
  readonly #listeners = new Set<() => void>();
  readonly #abort = new AbortController();
  readonly #tasks: Promise<unknown>[] = [];
  #ownStore: Store | undefined;
  #membership: Membership | undefined;
  #agent: SerfAgent | undefined;
  #shown = "";
  #closing: Promise<void> | undefined;

  private constructor(options: ClusterOptions) {
    this.#options = options;
    this.#record = {
      version: 1,
      id: options.instance,
      name: options.hostName,
      address: options.advertise.address,
      ...(options.vtep !== undefined && { vtep: options.vtep }),
      dnetVersion: options.version,
      started: new Date((options.now ?? Date.now)()).toISOString(),
      bootId: bootId(),
    };
  }

  /**
   * Registers this node and starts its serf agent. A store that is away and an agent that does not start are no errors: both are tried
   * again. Close it when done.
   * @throws NetworkError `invalid-discovery`, `invalid-encrypt` (bad request); the signal's reason
   */
  static async start(options: ClusterOptions): Promise<Cluster> {
    const discovery = options.discovery ? parseDiscovery(options.discovery) : undefined;
    const place = options.storePlace ? tryParseDiscovery(options.storePlace) : undefined;
    if (options.serf && options.serf.encrypt !== undefined) checkEncryptKey(options.serf.encrypt);
    const cluster = new Cluster(options);
    try {
      await cluster.#begin(discovery, place);
      options.signal?.throwIfAborted();
      return cluster;
    } catch (error) {
      await cluster.close();
      throw error;
    }
  }

  /** This node. */
  get self(): ClusterNode {
    const { dnetVersion, version: _version, ...record } = this.#record;
    const port = this.#agent?.access?.port;
    return {
      ...record,
      version: dnetVersion,
      state: "alive",
      since: record.started,
      self: true,
      ...(port !== undefined && { serfPort: port }),
    };
  }

  /** All nodes that are known, this one included, in order of name and id. */
  nodes(): readonly ClusterNode[] {
    const membership = this.#membership;
    return mergeNodes({
      self: this.self,
      stored: this.#registries.map((registry) => ({ nodes: registry.nodes(), lost: registry.lost !== undefined })),
      members: membership?.members() ?? [],
      following: membership?.following ?? false,
      rtt: (member) => membership?.rtt(member),
    });
  }

  /** Every member of the gossip, also those that dnet does not run; empty without serf. */
  members(): readonly Member[] {
    return this.#membership?.members() ?? [];
  }

  /** Why the nodes in the store may be out of date; undefined while they are followed. */
  get stale(): string | undefined {
    return this.#registries.map(({ lost }) => lost).find((reason) => reason !== undefined);
  }

  /** Calls `listener` when a node comes, goes, or changes address or state. @returns what ends that */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Joins, leaves and failures from now on, until the signal aborts; nothing without serf. */
  async *membershipEvents(signal: AbortSignal): AsyncIterable<MembershipEvent> {
    if (this.#membership) yield* this.#membership.events(signal);
  }

  /** Tells every member, this one included: at most 470 bytes with the name. @throws NetworkError `payload-too-large`, `serf-unavailable` */
  async userEvent(name: string, payload: Uint8Array, signal?: AbortSignal): Promise<void> {
    await this.#gossip().userEvent(name, payload, signal);
  }

  /**
   * Asks every member, or those named, this one included: at most 700 bytes with its name and theirs. Yields answers until `timeout` (ms).
   * @throws NetworkError `payload-too-large`, `serf-unavailable`
   */
  query(
    name: string,
    payload: Uint8Array,
    options: { readonly timeout?: number; readonly nodes?: readonly string[]; readonly signal?: AbortSignal } = {},
  ): AsyncIterable<QueryAnswer> {
    return this.#gossip().query(name, payload, options);
  }

  /** @returns what ends it; nothing comes without serf */
  onUserEvent(name: string, handler: UserEventHandler): () => void {
    return this.#membership?.onUserEvent(name, handler) ?? (() => undefined);
  }

  /** One handler answers the queries of a name, with at most 800 bytes. @returns what ends it */
  onQuery(name: string, handler: QueryHandler): () => void {
    return this.#membership?.onQuery(name, handler) ?? (() => undefined);
  }

  /** Signs off in the store, leaves the gossip, ends the agent; within the deadline (ms). */
  close(deadline = 5_000): Promise<void> {
    this.#closing ??= this.#close(deadline);
    return this.#closing;
  }

  async #close(deadline: number): Promise<void> {
    this.#abort.abort();
    await this.#membership?.close();
    const each = Math.max(500, deadline - 1_000);
    const results = await Promise.allSettled([
      ...this.#registries.map((registry) => registry.close(Math.min(each, 2_000))),
      this.#agent?.close(each),
      ...this.#tasks,
    ]);
    const store = this.#ownStore;
    if (store) await Promise.race([store.close().catch(() => undefined), pause(1_000, new AbortController().signal)]);
    for (const result of results) {
      if (result.status === "rejected") this.#options.log("warning", `cluster: ${errorText(result.reason)}`);
    }
  }

  async #begin(discovery: DiscoverySpec | undefined, place: DiscoverySpec | undefined): Promise<void> {
    const { store, serf, log, signal } = this.#options;
    this.#startSerf(serf, discovery?.scheme ?? place?.scheme ?? "store");
    const ofStore = store && this.#register(store);
    if (discovery && "path" in discovery) {
      this.#tasks.push(
        followNodeFile(discovery.path, (list) => this.#found(list, "file"), { log, signal: this.#abort.signal }),
      );
    } else if (discovery && "addresses" in discovery) this.#found(discovery.addresses, "nodes");
    else if (discovery && !(place && samePlace(discovery, place) && ofStore)) {
      this.#ownStore = await this.#open(discovery);
      if (this.#ownStore) this.#joinFrom(this.#register(this.#ownStore), discovery.scheme);
    } else if (ofStore) this.#joinFrom(ofStore, discovery?.scheme ?? place?.scheme ?? "store");
    signal?.throwIfAborted();
    await Promise.all(this.#registries.map((registry) => registry.ready(readyDeadline)));
  }

  async #open(place: StorePlace): Promise<Store | undefined> {
    const { openStore, log } = this.#options;
    try {
      if (openStore) return await openStore(place);
      log("warning", `discovery: there is no client for ${place.scheme}`);
    } catch (error) {
      log("warning", `discovery: the store of ${place.scheme} cannot be opened: ${errorText(error)}`);
    }
    return undefined;
  }

  #register(store: Store): NodeRegistry {
    const { heartbeat = standardHeartbeat, log, clock, now } = this.#options;
    const port = this.#agent?.access?.port;
    const registry = new NodeRegistry({
      store,
      self: { ...this.#record, ...(port !== undefined && { serfPort: port }) },
      heartbeat,
      log,
      ...(clock && { clock }),
      ...(now && { now }),
    });
    registry.onChange(() => this.#changed());
    this.#registries.push(registry);
    return registry;
  }

  /** Joins the nodes that are alive in a store. */
  #joinFrom(registry: NodeRegistry, scheme: string): void {
    registry.onChange((prefix) => {
      if (prefix === alivePrefix) {
        this.#options.log("debug", `Watch triggered with ${registry.aliveCount} nodes`, { discovery: scheme });
      }
      const others = registry.nodes().filter(({ id, state }) => id !== this.#record.id && state === "alive");
      this.#membership?.setAddresses(
        others.flatMap(({ address, serfPort }) => (serfPort === undefined ? [] : [{ host: address, port: serfPort }])),
      );
    });
  }

  #found(addresses: readonly JoinAddress[], scheme: string): void {
    this.#options.log("debug", `Watch triggered with ${addresses.length} nodes`, { discovery: scheme });
    this.#membership?.setAddresses(addresses);
  }

  #startSerf(serf: SerfOptions | false, discovery: string): void {
    if (!serf) return;
    const { instance, hostName, advertise, vtep, version, log } = this.#options;
    const binary = findProgram(serf.binary ?? "serf");
    if (binary === undefined) {
      log("warning", "serf is not installed: there is no gossip between the nodes, the store alone says who is alive");
      return;
    }
    const tags: NodeTags = {
      id: instance,
      host: hostName.slice(0, 64),
      dnet: version.slice(0, 32),
      ...(vtep !== undefined && { vtep }),
    };
    const membership = new Membership({ discovery, log, ...(serf.port !== undefined && { port: serf.port }) });
    membership.onChange(() => this.#changed());
    this.#membership = membership;
    this.#agent = new SerfAgent(
      binary,
      {
        instance,
        hostName,
        address: advertise.address,
        ...(!advertise.local && { bind: anyAddress(advertise.address) }),
        ...(serf.port !== undefined && { port: serf.port }),
        ...(serf.rpcPort !== undefined && { rpcPort: serf.rpcPort }),
        ...(serf.encrypt !== undefined && { encrypt: serf.encrypt }),
        tags: { ...tags },
        runDir: serf.runDir,
        debug: serf.debug ?? false,
        log,
      },
      (access) => {
        membership.agentUp(access);
        for (const registry of this.#registries) registry.update({ serfPort: access.port });
        this.#changed();
      },
      () => membership.agentDown(),
    );
  }

  #gossip(): Membership {
    if (!this.#membership) throw noService("serf-unavailable", "the serf agent does not answer: there is none");
    return this.#membership;
  }

  #changed(): void {
    if (this.#abort.signal.aborted) return;
    const shown = this.nodes()
      .map(({ id, name, address, vtep, state, serfPort, serf }) =>
        [id, name, address, vtep, state, serfPort, serf?.status].join(),
      )
      .join("\n");
    if (shown === this.#shown) return;
    this.#shown = shown;
    for (const listener of this.#listeners) {
      try {
        listener();
      } catch (error) {
        this.#options.log("error", `a listener to the cluster failed: ${errorText(error)}`);
      }
    }
  }
}

/** To listen on every address of the host, in the family of one that is not its own. */
const anyAddress = (address: Ip): Ip => tryParseIp(address.includes(":") ? "::" : "0.0.0.0") ?? address;
