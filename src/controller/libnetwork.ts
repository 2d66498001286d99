import { randomBytes } from "node:crypto";
import type { ClusterNode } from "../cluster/merge-nodes.ts";
import type { DriverHost, NetworkDriver, Scope } from "../drivers/driver.ts";
import { option } from "../drivers/options.ts";
import { badRequest, errorText, NetworkError } from "../errors.ts";
import type { AddressSet, Ipam } from "../ipam/ipam.ts";
import { explainNetwork, explainPort, type Explanation as FirewallRules } from "../linux/firewall-explain.ts";
import { type HostProbe, hostProbe } from "../linux/host-probe.ts";
import type { Kernel } from "../linux/kernel.ts";
import type { MissWatch } from "../linux/miss-watch.ts";
import { hostNamespace } from "../linux/plan.ts";
import type { Prefix } from "../net/prefix.ts";
import { KernelPortSockets, type PortSockets } from "../ports/port-sockets.ts";
import type { LocalStore } from "../store/sqlite/local-store.ts";
import type { Store, TransactionResult } from "../store/store.ts";
import { AttachmentManager } from "./attachment-manager.ts";
import {
  type Context,
  driverNetwork,
  idOfMark,
  type Log,
  type Naming,
  requireEndpoint,
  requireNetwork,
  requireSandbox,
  usableDriver,
} from "./context.ts";
import type { Diagnosis, RepairReport } from "./doctor/diagnosis.ts";
import { EndpointManager } from "./endpoint-manager.ts";
import { Examiner, type Occasion } from "./examiner.ts";
import { type ExplainSubject, type Explanation, explain } from "./explain.ts";
import { FirewallGuard, NoFirewall } from "./firewall-guard.ts";
import { Follower } from "./follower.ts";
import { ForeignChanges } from "./foreign-changes.ts";
import type { GarbageReport, GarbageRequest } from "./garbage.ts";
import type { GlobalCopy } from "./global-copy.ts";
import { HostConditions, type OwnSubnet } from "./host-conditions.ts";
import { Locks } from "./locks.ts";
import type {
  AttachOptions,
  Controller,
  CreateEndpoint,
  CreateNetwork,
  CreateSandbox,
  EndpointInfo,
  FirewallExplanation,
  NetworkInfo,
  SandboxInfo,
  Stale,
} from "./model.ts";
import { NetworkManager } from "./network-manager.ts";
import { PortPublisher } from "./port-publisher.ts";
import { Presence } from "./presence.ts";
import { PresenceKeeper, type PresenceOptions } from "./presence-keeper.ts";
import { reconcile } from "./reconcile.ts";
import { SandboxManager } from "./sandbox-manager.ts";
import { State } from "./state.ts";
import { trace } from "./trace.ts";
import type { Trace } from "./trace-model.ts";
import { endpointInfo, networkInfo, sandboxInfo } from "./views.ts";
import { type GatewayNetwork, WayOut } from "./way-out.ts";
import { spoofPart } from "./wiring.ts";

export type HostPlace = Omit<DriverHost, "namespaceDir" | "firewall">;

export interface LibnetworkOptions {
  readonly stores: Readonly<Record<Scope, Store>>;
  readonly kernel: Kernel;
  readonly drivers: readonly NetworkDriver[];
  readonly ipam: Ipam;
  readonly newAddressSet: () => AddressSet;
  /** Makes what keeps names and files of sandboxes, given the records it reads. */
  readonly naming: (state: State) => Naming;
  /** Directory of namespace files: `/var/run/docker/netns`. */
  readonly namespaceDir: string;
  /** Takes ports of the host; by sockets where absent. */
  readonly portSockets?: PortSockets;
  readonly avoid: (signal?: AbortSignal) => Promise<readonly Prefix[]>;
  /** `none` leaves packets alone: no NAT, no isolation. */
  readonly firewall?: "nftables" | "none";
  /** Made at the start where it is missing; an empty name makes none. */
  readonly defaultNetwork?: string;
  readonly defaultDriver?: string;
  /** Where this node is among the hosts that a network spans; without it such networks cannot be joined here. */
  readonly place?: HostPlace;
  /** By which sandboxes get out whose networks have no way out; without it they do not. */
  readonly gateway?: GatewayNetwork;
  readonly presence?: PresenceOptions;
  /** Tells which endpoints elsewhere packets miss; without it, those that the kernel does not know stay unknown until the next look. */
  readonly misses?: MissWatch;
  /** What people call a node, given its id. */
  readonly nodeName?: (node: string) => string;
  /** Keeps what the shared store said last, for a start without it. */
  readonly copy?: GlobalCopy;
  /** What is wrong with the local store. */
  readonly localStore?: Pick<LocalStore, "replaced" | "trouble">;
  /** What is read of the host when it is examined. */
  readonly probe?: HostProbe;
  readonly log?: Log;
  readonly signal?: AbortSignal;
}

/** Milliseconds that closing waits for operations under way. */
const closeDeadline = 10_000;

/** The controller: one per store and host. Open it, use it, close it; what it made goes on running when it is closed. */
export class Libnetwork implements Controller {
  readonly defaultNetwork: string;
  readonly #context: Context;
  readonly #networks: NetworkManager;
  readonly #attachments: AttachmentManager;
  readonly #endpoints: EndpointManager;
  readonly #sandboxes: SandboxManager;
  readonly #presence: Presence;
  readonly #keeper: PresenceKeeper;
  readonly #wayOut: WayOut;
  readonly #follower: Follower | undefined;
  readonly #copy: GlobalCopy | undefined;
  readonly #examiner: Examiner;
  #reconciling: Promise<void> = Promise.resolve();
  readonly #closing: (() => Promise<void>)[] = [];

  private constructor(context: Context, options: LibnetworkOptions) {
    this.#context = context;
    this.defaultNetwork = context.defaultNetwork;
    this.#networks = new NetworkManager(context);
    this.#presence = new Presence(context, options.presence?.peersAhead);
    this.#keeper = new PresenceKeeper(context, {
      presence: this.#presence,
      misses: options.misses,
      isComplete: () => this.#follower?.stale === undefined,
      options: options.presence,
    });
    this.#attachments = new AttachmentManager(context, this.#presence);
    this.#endpoints = new EndpointManager(context, this.#attachments);
    this.#sandboxes = new SandboxManager(context, this.#presence, this.#attachments);
    this.#wayOut = new WayOut(context, {
      networks: this.#networks,
      endpoints: this.#endpoints,
      attachments: this.#attachments,
    });
    this.#copy = options.copy;
    const { stores, localStore, probe = hostProbe() } = options;
    this.#examiner = new Examiner({ context, presence: this.#presence, stores, localStore, probe });
    const { local, global } = stores;
    // With one store for both scopes this process is the only one that writes it.
    if (local === global) return;
    const foreign = new ForeignChanges(context, {
      attachments: this.#attachments,
      presence: this.#presence,
      wayOut: this.#wayOut,
    });
    this.#follower = new Follower({
      scope: "global",
      store: global,
      state: context.state,
      log: context.log,
      onEvent: () => this.#copy?.save(() => context.state.entries("global")),
      onChange: (changes) => foreign.apply(changes),
      onBack: () => this.#reconcile(),
    });
  }

  /** Reads the store, makes the kernel match it, and makes the default network where it is missing. */
  static async open(options: LibnetworkOptions): Promise<Libnetwork> {
    const log = options.log ?? (() => undefined);
    const state = new State({
      stores: options.stores,
      newAddressSet: options.newAddressSet,
      onInvalid: (key, reason) => log("error", `ignored record ${key}: ${reason}`),
    });
    await state.load("local", options.signal);
    const instance = await instanceId(options.stores.local, options.signal);
    const { kernel } = options;
    const locks = new Locks();
    const table = options.firewall === "none" ? undefined : `dnet_${instance}`;
    const context: Context = {
      state,
      kernel,
      drivers: new Map(options.drivers.map((driver) => [driver.name, driver])),
      ipam: options.ipam,
      locks,
      naming: options.naming(state),
      log,
      instance,
      host: options.place && {
        ...options.place,
        namespaceDir: options.namespaceDir,
        firewall: options.firewall !== "none",
      },
      gateway: options.gateway,
      nodeName: options.nodeName ?? ((node) => node),
      namespaceDir: options.namespaceDir,
      defaultNetwork: options.defaultNetwork ?? "bridge",
      defaultDriver: options.defaultDriver ?? "bridge",
      avoid: options.avoid,
      ports:
        table === undefined
          ? undefined
          : new PortPublisher({
              state,
              kernel,
              table: `${table}_ports`,
              firewall: table,
              sockets: options.portSockets ?? new KernelPortSockets(kernel),
              locks,
              log,
            }),
      firewallTable: table,
      conditions: new HostConditions({ kernel, log, subnets: () => ownSubnets(context) }),
      firewall: table === undefined ? new NoFirewall(kernel) : new FirewallGuard({ kernel, locks, log, table }),
    };
    if (table !== undefined) context.firewall.register(spoofPart(context, table));
    if (context.ports) context.firewall.register(context.ports);
    const libnetwork = new Libnetwork(context, options);
    try {
      await libnetwork.#examiner.begin();
      for (const reason of libnetwork.degraded) log("error", `degraded: ${reason}`);
      await libnetwork.#loadGlobal(options.signal);
      await libnetwork.#reconcile(options.signal);
      libnetwork.#keeper.start();
      await context.conditions.watch();
      await libnetwork.#ensureDefaultNetwork();
      return libnetwork;
    } catch (error) {
      await libnetwork.#follower?.close();
      await libnetwork.#keeper.close();
      context.conditions.close();
      await context.firewall.close();
      throw error;
    }
  }

  async #loadGlobal(signal?: AbortSignal): Promise<void> {
    const { state, log, naming } = this.#context;
    if (this.#follower) state.remember("global", (await this.#copy?.load()) ?? []);
    else await state.load("global", signal);
    // Names were made of the local records; what the store tells from here on comes as changes.
    for (const endpoint of state.endpoints.values()) await naming.changed(endpoint, undefined);
    // First of all: whatever else the start waits for, names are answered.
    await naming.resume(signal);
    if (!this.#follower) return;
    if (await this.#follower.start(signal)) return;
    log("warning", `the global store cannot be read: ${this.#follower.stale?.reason}; what was last known is used`);
  }

  /** One at a time. Without the shared store nobody knows what is an orphan: then nothing is taken away. */
  #reconcile(signal?: AbortSignal): Promise<void> {
    const complete = () => this.#follower?.stale === undefined;
    const parts = { sandboxes: this.#sandboxes, presence: this.#presence, keeper: this.#keeper };
    const run = this.#reconciling
      .then(() => reconcile(this.#context, parts, complete(), signal, this.#examiner.keepsOrphans))
      .then(() => this.#wayOut.adjustAll());
    this.#reconciling = run.catch(() => undefined);
    return run;
  }

  async sync(signal?: AbortSignal): Promise<Stale | undefined> {
    return this.#follower?.sync(signal);
  }

  async #ensureDefaultNetwork(): Promise<void> {
    const { defaultNetwork: name, defaultDriver: driver, state, kernel, log } = this.#context;
    if (name === "" || state.networkNamed(name)) return;
    const options: Record<string, string> = {};
    if (driver === "bridge" && name === "bridge") {
      const host = await kernel.observe(hostNamespace);
      const present = host?.links.find((link) => link.name === "docker0");
      if (!present || idOfMark(this.#context, present.alias) !== undefined) options[option.bridgeName] = "docker0";
      else log("warning", "docker0 belongs to another program: the default network gets a bridge of its own name");
    }
    try {
      await this.createNetwork({ name, driver, options });
    } catch (error) {
      log("warning", `default network ${name} could not be made: ${errorText(error)}`);
    }
  }

  /** Id of this node: eight hex digits, kept in the local store. */
  get node(): string {
    return this.#context.instance;
  }

  networks(): readonly NetworkInfo[] {
    return [...this.#context.state.networks.values()].map(networkInfo);
  }

  network(id: string): NetworkInfo {
    return networkInfo(requireNetwork(this.#context, id));
  }

  async createNetwork(request: CreateNetwork, signal?: AbortSignal): Promise<NetworkInfo> {
    return networkInfo(await this.#networks.create(request, signal));
  }

  async deleteNetwork(id: string): Promise<void> {
    await this.#networks.delete(id);
  }

  endpoints(networkId?: string): readonly EndpointInfo[] {
    const { state } = this.#context;
    const records =
      networkId === undefined
        ? [...state.endpoints.values()]
        : state.endpointsOf(requireNetwork(this.#context, networkId).id);
    // An endpoint whose network's record is unreadable has no name to show.
    return records
      .filter(({ network }) => state.networks.has(network))
      .map((record) => endpointInfo(this.#context, record));
  }

  endpoint(id: string): EndpointInfo {
    return endpointInfo(this.#context, requireEndpoint(this.#context, id));
  }

  async createEndpoint(networkId: string, request: CreateEndpoint, signal?: AbortSignal): Promise<EndpointInfo> {
    return endpointInfo(this.#context, await this.#endpoints.create(networkId, request, signal));
  }

  async deleteEndpoint(id: string, options: { readonly force?: boolean } = {}, signal?: AbortSignal): Promise<void> {
    const before = await this.#endpoints.delete(id, options.force ?? false, signal);
    if (before.sandbox === undefined) return;
    // The watch tells of what others change only.
    await this.#presence.follow({ networks: [], endpoints: [{ before }] });
    await this.#wayOut.adjust(before.sandbox.id);
  }

  async attach(
    endpointId: string,
    sandboxId: string,
    options: AttachOptions = {},
    signal?: AbortSignal,
  ): Promise<SandboxInfo> {
    const sandbox = await this.#attachments.attach(endpointId, sandboxId, options, signal);
    try {
      await this.#wayOut.adjust(sandboxId);
    } catch (error) {
      await this.#undoAttach(endpointId, sandboxId);
      throw error;
    }
    return sandboxInfo(this.#context, sandbox);
  }

  async #undoAttach(endpointId: string, sandboxId: string): Promise<void> {
    try {
      await this.#attachments.detach(endpointId, sandboxId);
    } catch (error) {
      // Somebody else may have been faster; why it is undone is what the caller must hear.
      if (this.#context.state.endpoints.get(endpointId)?.sandbox?.id === sandboxId) throw error;
    }
  }

  async detach(endpointId: string, sandboxId: string, signal?: AbortSignal): Promise<void> {
    await this.#attachments.detach(endpointId, sandboxId, signal);
    await this.#wayOut.adjust(sandboxId);
  }

  sandboxes(): readonly SandboxInfo[] {
    return [...this.#context.state.sandboxes.values()].map((record) => sandboxInfo(this.#context, record));
  }

  sandbox(id: string): SandboxInfo {
    return sandboxInfo(this.#context, requireSandbox(this.#context, id));
  }

  async createSandbox(request: CreateSandbox, signal?: AbortSignal): Promise<SandboxInfo> {
    return sandboxInfo(this.#context, await this.#sandboxes.create(request, signal));
  }

  async deleteSandbox(id: string): Promise<void> {
    await this.#sandboxes.delete(id);
  }

  explainNetwork(id: string): FirewallExplanation {
    const record = requireNetwork(this.#context, id);
    const part = usableDriver(this.#context, record)?.firewall(driverNetwork(this.#context, record));
    return this.#explanation(
      part
        ? explainNetwork(part)
        : { summary: [`driver ${record.driver} needs no rules on this host`], elements: [], rules: [] },
    );
  }

  explainPort(port: number, protocol: "tcp" | "udp" | "sctp"): FirewallExplanation {
    if (!Number.isInteger(port) || port < 1 || port > 65_535) {
      throw badRequest("invalid-port", `invalid port: ${port} is not between 1 and 65535`);
    }
    return this.#explanation(explainPort(port, protocol, this.#context.firewall.parts));
  }

  #explanation(explanation: FirewallRules): FirewallExplanation {
    const { firewallTable: table } = this.#context;
    if (table !== undefined) return { backend: "nftables", table: `inet ${table}`, ...explanation };
    const summary = ['firewall = "none": packets are left alone, there are no rules'];
    return { backend: "none", summary, elements: [], rules: [] };
  }

  explain(subject: ExplainSubject, id: string): Explanation {
    return explain(this.#context, this.#presence, subject, id);
  }

  async trace(
    sandboxId: string,
    to: string,
    options: { readonly ping?: boolean } = {},
    signal?: AbortSignal,
  ): Promise<Trace> {
    return trace(this.#context, sandboxId, to, { ...options, ...(signal && { signal }) });
  }

  get degraded(): readonly string[] {
    return this.#examiner.degraded;
  }

  async #occasion(nodes: readonly ClusterNode[], signal?: AbortSignal): Promise<Occasion> {
    return { nodes, stale: (await this.sync(signal))?.reason, ...(signal && { signal }) };
  }

  async diagnose(nodes: readonly ClusterNode[], signal?: AbortSignal): Promise<Diagnosis> {
    return this.#examiner.diagnose(await this.#occasion(nodes, signal));
  }

  async repair(nodes: readonly ClusterNode[], signal?: AbortSignal): Promise<RepairReport> {
    return this.#examiner.repair(await this.#occasion(nodes, signal), () => this.#reconcile(signal));
  }

  async collectGarbage(
    nodes: readonly ClusterNode[],
    request: GarbageRequest,
    signal?: AbortSignal,
  ): Promise<GarbageReport> {
    return this.#examiner.collectGarbage(await this.#occasion(nodes, signal), request);
  }

  /** Work to do when the controller is closed, after its own. */
  onClose(work: () => Promise<void>): void {
    this.#closing.push(work);
  }

  async close(): Promise<void> {
    // What is under way ends in order; what does not is a difference that the next start removes.
    await this.#context.locks.idle(closeDeadline);
    await this.#follower?.close();
    await this.#reconciling;
    await this.#keeper.close();
    if (this.#follower) await this.#copy?.flush(this.#context.state.entries("global"));
    await this.#context.naming.closeAll();
    this.#context.conditions.close();
    await this.#context.ports?.close();
    await this.#context.firewall.close();
    for (const work of this.#closing.splice(0)) await work();
  }
}

/** Subnets of networks that are bridges of this host. */
const ownSubnets = (context: Context): readonly OwnSubnet[] =>
  [...context.state.networks.values()].flatMap((record) => {
    const part = usableDriver(context, record)?.firewall(driverNetwork(context, record));
    if (!part) return [];
    return part.subnets.map((pool) => ({ network: record.name, pool, devices: [part.bridge] }));
  });

/** What tells this daemon's kernel objects from another's: made once, kept in the local store. */
const instanceId = async (store: Store, signal?: AbortSignal): Promise<string> => {
  const key = "host/instance";
  const found = (await store.get(key, signal))?.value;
  if (typeof found === "string" && /^[0-9a-f]{8}$/.test(found)) return found;
  const id = randomBytes(4).toString("hex");
  let result: TransactionResult;
  try {
    result = await store.transact({ puts: [{ key, value: id }] }, signal);
  } catch (error) {
    // Nothing can be made then that would carry it.
    if (error instanceof NetworkError && error.code === "store-read-only") return id;
    throw error;
  }
  if (!result.ok)
    throw new NetworkError("no-service", "store-unavailable", "the local store refused to keep this host's identity");
  return id;
};
