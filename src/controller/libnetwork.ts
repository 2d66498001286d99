import type { ClusterNode } from "../cluster/merge-nodes.ts";
import type { PortProtocol } from "../linux/firewall-ports.ts";
import { assembleContext, type LibnetworkOptions } from "./assemble.ts";
import { AttachmentManager } from "./attachment-manager.ts";
import { type Context, requireEndpoint, requireNetwork, requireSandbox } from "./context.ts";
import { ensureDefaultNetwork } from "./default-network.ts";
import type { Diagnosis, RepairReport } from "./doctor/diagnosis.ts";
import { EndpointManager } from "./endpoint-manager.ts";
import { Examiner, type Occasion } from "./examiner.ts";
import { type ExplainSubject, type Explanation, explain } from "./explain.ts";
import { explainNetworkRules, explainPortRules } from "./firewall-explanation.ts";
import { Follower } from "./follower.ts";
import { ForeignChanges } from "./foreign-changes.ts";
import type { GarbageReport, GarbageRequest } from "./garbage.ts";
import type { GlobalCopy } from "./global-copy.ts";
import { Membership } from "./membership.ts";
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
import { Presence } from "./presence.ts";
import { PresenceKeeper } from "./presence-keeper.ts";
import { reconcile } from "./reconcile.ts";
import { SandboxManager } from "./sandbox-manager.ts";
import { trace } from "./trace.ts";
import type { Trace } from "./trace-model.ts";
import { endpointInfo, networkInfo, sandboxInfo } from "./views.ts";
import { WayOut } from "./way-out.ts";
import { WiringKeeper } from "./wiring-keeper.ts";

/** Milliseconds that closing waits for operations under way. */
const closeDeadline = 10_000;

/** The controller: one per store and host. Open it, use it, close it; what it made goes on running when it is closed. */
export class Libnetwork implements Controller {
  readonly defaultNetwork: string;
  readonly #context: Context;
  readonly #networks: NetworkManager;
  readonly #endpoints: EndpointManager;
  readonly #sandboxes: SandboxManager;
  readonly #presence: Presence;
  readonly #keeper: PresenceKeeper;
  readonly #wiring: WiringKeeper;
  readonly #wayOut: WayOut;
  readonly #membership: Membership;
  readonly #follower: Follower | undefined;
  readonly #copy: GlobalCopy | undefined;
  readonly #examiner: Examiner;
  readonly #synced: () => Promise<void>;
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
    const attachments = new AttachmentManager(context, this.#presence);
    this.#endpoints = new EndpointManager(context, attachments);
    this.#sandboxes = new SandboxManager(context, this.#presence, attachments);
    this.#wayOut = new WayOut(context, {
      networks: this.#networks,
      endpoints: this.#endpoints,
      attachments,
    });
    this.#membership = new Membership(context, {
      attachments,
      endpoints: this.#endpoints,
      sandboxes: this.#sandboxes,
      presence: this.#presence,
      wayOut: this.#wayOut,
    });
    this.#copy = options.copy;
    const { stores, localStore } = options;
    this.#examiner = new Examiner({ context, presence: this.#presence, stores, localStore, probe: context.probe });
    this.#wiring = new WiringKeeper(context, {
      presence: this.#presence,
      sandboxes: this.#sandboxes,
      wayOut: this.#wayOut,
      removesOrphans: () => this.#follower?.stale === undefined && !this.#examiner.keepsOrphans,
      every: options.repairEvery ?? 30_000,
    });
    const { local, global } = stores;
    this.#synced = async () => local.synced?.();
    // With one store for both scopes this process is the only one that writes it.
    if (local === global) return;
    const foreign = new ForeignChanges(context, {
      attachments,
      presence: this.#presence,
      wayOut: this.#wayOut,
    });
    this.#follower = new Follower({
      scope: "global",
      store: global,
      state: context.state,
      log: context.log,
      onEvent: () => this.#copy?.save(() => context.state.entries("global")),
      // From here on a start needs the copy: it has everything that was told.
      onLost: () => void this.#copy?.flush(context.state.entries("global")),
      onChange: (changes) => foreign.apply(changes),
      onBack: () => this.#reconcile(),
    });
  }

  /** Reads the store, makes the kernel match it, and makes the default network where it is missing. */
  static async open(options: LibnetworkOptions): Promise<Libnetwork> {
    const context = await assembleContext(options);
    const { log } = context;
    const libnetwork = new Libnetwork(context, options);
    try {
      await libnetwork.#examiner.begin();
      for (const reason of libnetwork.degraded) log("error", `degraded: ${reason}`);
      await libnetwork.#loadGlobal(options.signal);
      await libnetwork.#reconcile(options.signal);
      libnetwork.#keeper.start();
      await libnetwork.#wiring.start();
      await context.conditions.watch();
      await ensureDefaultNetwork(context, (request) => libnetwork.#networks.create(request));
      context.conditions.lookAtOthers();
      await libnetwork.#synced();
      return libnetwork;
    } catch (error) {
      await libnetwork.#follower?.close();
      await libnetwork.#release();
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

  /** Does a change; its answer, also a refusal, comes when what it wrote is on the disk. */
  async #durably<T>(change: () => Promise<T>): Promise<T> {
    try {
      return await change();
    } finally {
      await this.#synced();
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
    return this.#durably(async () => networkInfo(await this.#networks.create(request, signal)));
  }

  async deleteNetwork(id: string): Promise<void> {
    await this.#durably(() => this.#networks.delete(id));
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
    return this.#durably(async () =>
      endpointInfo(this.#context, await this.#endpoints.create(networkId, request, signal)),
    );
  }

  async deleteEndpoint(id: string, options: { readonly force?: boolean } = {}, signal?: AbortSignal): Promise<void> {
    await this.#durably(() => this.#membership.deleteEndpoint(id, options.force ?? false, signal));
  }

  async attach(
    endpointId: string,
    sandboxId: string,
    options: AttachOptions = {},
    signal?: AbortSignal,
  ): Promise<SandboxInfo> {
    return this.#durably(async () =>
      sandboxInfo(this.#context, await this.#membership.attach(endpointId, sandboxId, options, signal)),
    );
  }

  async detach(endpointId: string, sandboxId: string, signal?: AbortSignal): Promise<void> {
    await this.#durably(() => this.#membership.detach(endpointId, sandboxId, signal));
  }

  sandboxes(): readonly SandboxInfo[] {
    return [...this.#context.state.sandboxes.values()].map((record) => sandboxInfo(this.#context, record));
  }

  sandbox(id: string): SandboxInfo {
    return sandboxInfo(this.#context, requireSandbox(this.#context, id));
  }

  async createSandbox(request: CreateSandbox, signal?: AbortSignal): Promise<SandboxInfo> {
    return this.#durably(async () => sandboxInfo(this.#context, await this.#sandboxes.create(request, signal)));
  }

  async deleteSandbox(id: string): Promise<void> {
    await this.#durably(() => this.#membership.deleteSandbox(id));
  }

  explainNetwork(id: string): FirewallExplanation {
    return explainNetworkRules(this.#context, requireNetwork(this.#context, id));
  }

  explainPort(port: number, protocol: PortProtocol, signal?: AbortSignal): Promise<FirewallExplanation> {
    return explainPortRules(this.#context, port, protocol, signal);
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

  /** What was put right since the start that others changed. */
  get repairs(): number {
    return this.#context.repairs.count;
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
    const occasion = await this.#occasion(nodes, signal);
    return this.#durably(() => this.#examiner.repair(occasion, () => this.#reconcile(signal)));
  }

  async collectGarbage(
    nodes: readonly ClusterNode[],
    request: GarbageRequest,
    signal?: AbortSignal,
  ): Promise<GarbageReport> {
    const occasion = await this.#occasion(nodes, signal);
    return this.#durably(() => this.#examiner.collectGarbage(occasion, request));
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
    if (this.#follower) await this.#copy?.flush(this.#context.state.entries("global"));
    await this.#release();
    for (const work of this.#closing.splice(0)) await work();
  }

  /** Lets go of what this process holds; what runs in the kernel stays. */
  async #release(): Promise<void> {
    await this.#wiring.close();
    await this.#keeper.close();
    await this.#context.naming.closeAll();
    this.#context.conditions.close();
    await this.#context.ports?.close();
    await this.#context.firewall.close();
  }
}
