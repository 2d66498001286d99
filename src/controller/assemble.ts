import { randomBytes } from "node:crypto";
import type { DriverHost, NetworkDriver, Scope } from "../drivers/driver.ts";
import { NetworkError } from "../errors.ts";
import type { AddressSet, Ipam } from "../ipam/ipam.ts";
import { type HostProbe, hostProbe } from "../linux/host-probe.ts";
import type { Kernel, Observed } from "../linux/kernel.ts";
import type { MissWatch } from "../linux/miss-watch.ts";
import type { Prefix } from "../net/prefix.ts";
import { KernelPortSockets, type PortSockets } from "../ports/port-sockets.ts";
import type { LocalStore } from "../store/sqlite/local-store.ts";
import type { Store, TransactionResult } from "../store/store.ts";
import type { Context, Log, Naming } from "./context.ts";
import { FirewallGuard, NoFirewall } from "./firewall-guard.ts";
import type { GlobalCopy } from "./global-copy.ts";
import { HostConditions } from "./host-conditions.ts";
import { Locks } from "./locks.ts";
import { bridgedNetworks, ownSubnets } from "./other-programs.ts";
import { PortPublisher } from "./port-publisher.ts";
import type { PresenceOptions } from "./presence-keeper.ts";
import { Repairs } from "./repairs.ts";
import { State } from "./state.ts";
import type { GatewayNetwork } from "./way-out.ts";
import { portFilterParts } from "./wiring.ts";

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
  readonly avoid: (host: Observed | undefined, signal?: AbortSignal) => Promise<readonly Prefix[]>;
  /** `none` leaves packets alone: no NAT, no isolation. */
  readonly firewall?: "nftables" | "none";
  /** Made at the start where it is missing; an empty name makes none. */
  readonly defaultNetwork?: string;
  readonly defaultDriver?: string;
  /** Where this node is among the hosts that a network spans; without it such networks cannot be joined here. */
  readonly place?: HostPlace | Promise<HostPlace | undefined>;
  /** By which sandboxes get out whose networks have no way out; without it they do not. */
  readonly gateway?: GatewayNetwork;
  readonly presence?: PresenceOptions;
  /** Milliseconds between two looks at bridges and sandboxes, give or take a fifth; 0 looks at nothing. Default 30,000. */
  readonly repairEvery?: number;
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

/** Reads the local store and puts together what every part of the controller works with. Nothing in the kernel is touched. */
export const assembleContext = async (options: LibnetworkOptions): Promise<Context> => {
  const log = options.log ?? (() => undefined);
  const state = new State({
    stores: options.stores,
    newAddressSet: options.newAddressSet,
    onInvalid: (key, reason) => log("error", `ignored record ${key}: ${reason}`),
  });
  await state.load("local", options.signal);
  const instance = await instanceId(options.stores.local, options.signal);
  const place = await options.place;
  const { kernel, probe = hostProbe() } = options;
  const defaultNetwork = options.defaultNetwork ?? "bridge";
  const locks = new Locks();
  const repairs = new Repairs(log);
  const table = options.firewall === "none" ? undefined : `dnet_${instance}`;
  const context: Context = {
    state,
    kernel,
    probe,
    drivers: new Map(options.drivers.map((driver) => [driver.name, driver])),
    ipam: options.ipam,
    locks,
    naming: options.naming(state),
    log,
    instance,
    host: place && {
      ...place,
      namespaceDir: options.namespaceDir,
      firewall: options.firewall !== "none",
    },
    gateway: options.gateway,
    nodeName: options.nodeName ?? ((node) => node),
    namespaceDir: options.namespaceDir,
    defaultNetwork,
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
    conditions: new HostConditions({
      kernel,
      log,
      subnets: () => ownSubnets(context),
      others: { networks: () => bridgedNetworks(context), probe, defaultNetwork },
    }),
    firewall: table === undefined ? new NoFirewall(kernel) : new FirewallGuard({ kernel, locks, log, repairs, table }),
    repairs,
  };
  if (table !== undefined) for (const part of portFilterParts(context, table)) context.firewall.register(part);
  if (context.ports) context.firewall.register(context.ports);
  return context;
};

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
