import { randomBytes } from "node:crypto";
import type { NetworkDriver, Scope } from "../drivers/driver.ts";
import { option } from "../drivers/options.ts";
import { errorText, NetworkError } from "../errors.ts";
import type { AddressSet, Ipam } from "../ipam/ipam.ts";
import { firewallClear } from "../linux/firewall.ts";
import type { Kernel } from "../linux/kernel.ts";
import { hostNamespace, plan } from "../linux/plan.ts";
import type { Prefix } from "../net/prefix.ts";
import { KernelPortSockets, type PortSockets } from "../ports/port-sockets.ts";
import type { Store } from "../store/store.ts";
import {
  type Context,
  driverNetwork,
  idOfMark,
  type Log,
  type Naming,
  requireEndpoint,
  requireNetwork,
  requireSandbox,
} from "./context.ts";
import { EndpointManager } from "./endpoint-manager.ts";
import { Locks } from "./locks.ts";
import type {
  Controller,
  CreateEndpoint,
  CreateNetwork,
  CreateSandbox,
  EndpointInfo,
  NetworkInfo,
  SandboxInfo,
} from "./model.ts";
import { NetworkManager } from "./network-manager.ts";
import { PortPublisher } from "./port-publisher.ts";
import { reconcile } from "./reconcile.ts";
import { SandboxManager } from "./sandbox-manager.ts";
import { State } from "./state.ts";
import { endpointInfo, networkInfo, sandboxInfo } from "./views.ts";

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
  readonly #endpoints: EndpointManager;
  readonly #sandboxes: SandboxManager;
  readonly #closing: (() => Promise<void>)[] = [];

  private constructor(context: Context) {
    this.#context = context;
    this.defaultNetwork = context.defaultNetwork;
    this.#networks = new NetworkManager(context);
    this.#endpoints = new EndpointManager(context);
    this.#sandboxes = new SandboxManager(context);
  }

  /** Reads the store, makes the kernel match it, and makes the default network where it is missing. */
  static async open(options: LibnetworkOptions): Promise<Libnetwork> {
    const log = options.log ?? (() => undefined);
    const state = new State({
      stores: options.stores,
      newAddressSet: options.newAddressSet,
      onInvalid: (key, reason) => log("error", `ignored record ${key}: ${reason}`),
    });
    await state.load(options.signal);
    const instance = await instanceId(options.stores.local, options.signal);
    const locks = new Locks();
    const context: Context = {
      state,
      kernel: options.kernel,
      drivers: new Map(options.drivers.map((driver) => [driver.name, driver])),
      ipam: options.ipam,
      locks,
      naming: options.naming(state),
      log,
      instance,
      namespaceDir: options.namespaceDir,
      defaultNetwork: options.defaultNetwork ?? "bridge",
      defaultDriver: options.defaultDriver ?? "bridge",
      avoid: options.avoid,
      ports:
        options.firewall === "none"
          ? undefined
          : new PortPublisher({
              state,
              kernel: options.kernel,
              table: `dnet_${instance}_ports`,
              sockets: options.portSockets ?? new KernelPortSockets(options.kernel),
              locks,
              log,
            }),
      firewallTable: options.firewall === "none" ? undefined : `dnet_${instance}`,
    };
    const libnetwork = new Libnetwork(context);
    await reconcile(context, libnetwork.#sandboxes, options.signal);
    await libnetwork.#ensureDefaultNetwork();
    return libnetwork;
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
    await this.#endpoints.delete(id, options.force ?? false, signal);
  }

  async attach(
    endpointId: string,
    sandboxId: string,
    aliases: readonly string[] = [],
    signal?: AbortSignal,
  ): Promise<SandboxInfo> {
    return sandboxInfo(this.#context, await this.#endpoints.attach(endpointId, sandboxId, aliases, signal));
  }

  async detach(endpointId: string, sandboxId: string, signal?: AbortSignal): Promise<void> {
    await this.#endpoints.detach(endpointId, sandboxId, signal);
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

  /** Rules protect what runs on after us; where nothing does, they go. */
  async #removeEmptyFirewall(): Promise<void> {
    const { firewallTable: table, state, drivers, kernel, log } = this.#context;
    const used = [...state.networks.values()].some(
      (network) => drivers.get(network.driver)?.firewall(driverNetwork(this.#context, network)) !== undefined,
    );
    if (table === undefined || used) return;
    try {
      await kernel.apply(plan({ op: "nft.apply", namespace: hostNamespace, script: firewallClear(table) }));
    } catch (error) {
      log("warning", `could not remove the empty nftables table ${table}: ${errorText(error)}`);
    }
  }

  /** Work to do when the controller is closed, after its own. */
  onClose(work: () => Promise<void>): void {
    this.#closing.push(work);
  }

  async close(): Promise<void> {
    // What is under way ends in order; what does not is a difference that the next start removes.
    await this.#context.locks.idle(closeDeadline);
    await this.#context.naming.closeAll();
    await this.#context.ports?.close();
    await this.#removeEmptyFirewall();
    for (const work of this.#closing.splice(0)) await work();
  }
}

/** What tells this daemon's kernel objects from another's: made once, kept in the local store. */
const instanceId = async (store: Store, signal?: AbortSignal): Promise<string> => {
  const key = "host/instance";
  const found = (await store.get(key, signal))?.value;
  if (typeof found === "string" && /^[0-9a-f]{8}$/.test(found)) return found;
  const id = randomBytes(4).toString("hex");
  const result = await store.transact({ puts: [{ key, value: id }] }, signal);
  if (!result.ok)
    throw new NetworkError("no-service", "store-unavailable", "the local store refused to keep this host's identity");
  return id;
};
