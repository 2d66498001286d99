import { mkdirSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import type { HostPlace } from "./controller/assemble.ts";
import type { Log } from "./controller/context.ts";
import { namespaceOf } from "./controller/context.ts";
import { FileCopy } from "./controller/global-copy.ts";
import { Libnetwork } from "./controller/libnetwork.ts";
import { SandboxNaming } from "./controller/naming.ts";
import { dockerIsHere, dockerPool } from "./controller/other-programs.ts";
import type { PresenceOptions } from "./controller/presence-keeper.ts";
import type { GatewayNetwork } from "./controller/way-out.ts";
import { parseResolvConf, type SandboxFiles, sandboxFiles } from "./dns/files.ts";
import { HostUpstreams } from "./dns/upstreams.ts";
import { bridgeDriver } from "./drivers/bridge/bridge-driver.ts";
import type { NetworkDriver, Scope } from "./drivers/driver.ts";
import { hostDriver } from "./drivers/host/host-driver.ts";
import { nullDriver } from "./drivers/null/null-driver.ts";
import { option } from "./drivers/options.ts";
import { overlayDriver } from "./drivers/overlay/overlay-driver.ts";
import { testDriver } from "./drivers/test/test-driver.ts";
import { errorText } from "./errors.ts";
import { DefaultIpam, ulaOf } from "./ipam/default/default-ipam.ts";
import { SparseAddressSet } from "./ipam/default/sparse-address-set.ts";
import { describe } from "./linux/describe.ts";
import { hostProbe } from "./linux/host-probe.ts";
import type { Observed } from "./linux/kernel.ts";
import { NetlinkMissWatch } from "./linux/netlink-miss-watch.ts";
import { hostNamespace } from "./linux/plan.ts";
import { WorkerKernel, type WorkerKernelOptions } from "./linux/worker-kernel.ts";
import { familyOf } from "./net/ip.ts";
import { makePrefix, type Prefix, prefixOf } from "./net/prefix.ts";
import { openLocalStore } from "./store/sqlite/local-store.ts";
import type { Store } from "./store/store.ts";

/** Where the library meets what can fail. Each returns what is used in place of what it is given. */
export interface Seams {
  readonly store: (scope: Scope, store: Store) => Store;
  readonly kernel: (options: WorkerKernelOptions) => WorkerKernel;
  readonly files: (files: SandboxFiles) => SandboxFiles;
}

const plainSeams: Seams = {
  store: (_scope, store) => store,
  kernel: (options) => new WorkerKernel(options),
  files: (files) => files,
};

export interface CreateLibnetworkOptions {
  /** Where records and sandboxes' files are kept. Default `/var/lib/docker`. */
  readonly dataDir?: string;
  /** Where namespace files are made. Default `/var/run/docker`. */
  readonly execRoot?: string;
  /**
   * Shared by every node of a cluster; without it the embedded store serves both scopes: a cluster of one. A function makes it from the
   * embedded store.
   */
  readonly globalStore?: Store | ((local: Store) => Promise<Store>);
  /**
   * Says where this node takes encapsulated packets, given the host's routes and those of its links that have an address; without it networks that span hosts cannot
   * be joined here.
   */
  readonly place?: (host: Observed | undefined) => HostPlace | undefined;
  /** How endpoints on other hosts are followed. */
  readonly overlay?: PresenceOptions;
  /** What people call a node, given its id. */
  readonly nodeName?: (node: string) => string;
  /** `none` leaves packets alone: no NAT, no isolation. */
  readonly firewall?: "nftables" | "none";
  /** Milliseconds between two looks at bridges and sandboxes for what others changed, give or take a fifth; 0: at the start only. Default 30,000. */
  readonly repairEvery?: number;
  /** Seconds for which programs may keep the addresses of names of ours; default 0: a name that moves is found at once. */
  readonly dnsTtl?: number;
  /** Made at the start where it is missing; an empty name makes none. Default `bridge`. */
  readonly defaultNetwork?: string;
  readonly defaultDriver?: string;
  /** Beside bridge, overlay, host, null and test. */
  readonly drivers?: readonly NetworkDriver[];
  /** Told every kernel operation as its equivalent command, at level debug. */
  readonly log?: Log;
  readonly signal?: AbortSignal;
  /** For tests: faults are injected there (`faults/faulty-seams.ts`). */
  readonly seams?: Seams;
}

/** As in the original: no traffic between sandboxes by it, only to the outside. */
const gatewayNetwork: GatewayNetwork = {
  name: "docker_gwbridge",
  driver: "bridge",
  options: { [option.bridgeName]: "docker_gwbridge", [option.icc]: "false" },
};

/** What makes a host a router. */
const forwarding: readonly string[] = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];

const hostResolvConf = "/etc/resolv.conf";

/**
 * A network controller for this host, ready to use: embedded store, kernel worker, drivers, addresses and names.
 * Close it when done; what it made goes on running and is found again by the next one with the same directories.
 * @throws NetworkError: another daemon uses the directory, no root, no nftables
 */
export const createLibnetwork = async (options: CreateLibnetworkOptions = {}): Promise<Libnetwork> => {
  const {
    dataDir = "/var/lib/docker",
    execRoot = "/var/run/docker",
    log = () => undefined,
    seams = plainSeams,
  } = options;
  const root = join(dataDir, "network");
  makeRoot(root, log);
  const kernel = seams.kernel({
    onOperation: (operation, outcome) => {
      log("debug", `${outcome === "undone" ? "undo: " : ""}${describe(operation)}`);
      if (operation.op === "sysctl.set" && operation.was === "0" && forwarding.includes(operation.key)) {
        log("warning", `${operation.key} was 0 and is 1 now: this host also routes between its other interfaces`);
      }
    },
  });
  // The worker starts, and reads the host, while this thread reads the store.
  const place = kernel.observe(hostNamespace, options.signal, "addressed").then(options.place ?? (() => undefined));
  place.catch(() => undefined);
  const localStore = await openLocalStore(join(root, "dnet.db"), {
    log: (message) => log("warning", message),
    scratch: [execRoot],
  }).catch(async (error: unknown) => {
    await kernel.close();
    throw error;
  });
  const local = seams.store("local", localStore.store);
  const namespaceDir = join(execRoot, "netns");
  const probe = hostProbe();
  const close = async () => {
    await kernel.close();
    await local.close();
  };
  try {
    const { globalStore = local } = options;
    const shared = typeof globalStore === "function" ? await globalStore(local) : globalStore;
    const global = shared === local ? local : seams.store("global", shared);
    const libnetwork = await Libnetwork.open({
      stores: { local, global },
      localStore,
      kernel,
      drivers: [bridgeDriver(), overlayDriver(), hostDriver(), nullDriver(), testDriver(), ...(options.drivers ?? [])],
      ipam: new DefaultIpam({ ula: ulaOf(hostIdentity()) }),
      newAddressSet: () => new SparseAddressSet(),
      ...(shared === options.globalStore && { copy: new FileCopy(join(root, "global.json"), log) }),
      place,
      misses: new NetlinkMissWatch(kernel),
      ...(options.overlay && { presence: options.overlay }),
      ...(options.repairEvery !== undefined && { repairEvery: options.repairEvery }),
      ...(options.nodeName && { nodeName: options.nodeName }),
      gateway: gatewayNetwork,
      naming: (state) =>
        new SandboxNaming({
          ...(options.dnsTtl !== undefined && { ttl: options.dnsTtl }),
          state,
          kernel,
          directory: join(root, "files"),
          namespaceOf: (sandbox) => namespaceOf({ namespaceDir }, sandbox),
          hostUpstreams: new HostUpstreams({ path: hostResolvConf }),
          files: seams.files(sandboxFiles),
          log,
        }),
      namespaceDir,
      avoid: async (host) => [...hostPrefixes(host), ...((await dockerIsHere(probe)) ? [dockerPool] : [])],
      probe,
      ...(options.firewall !== undefined && { firewall: options.firewall }),
      ...(options.defaultNetwork !== undefined && { defaultNetwork: options.defaultNetwork }),
      ...(options.defaultDriver !== undefined && { defaultDriver: options.defaultDriver }),
      log,
      ...(options.signal && { signal: options.signal }),
    });
    libnetwork.onClose(close);
    return libnetwork;
  } catch (error) {
    await close();
    throw error;
  }
};

/** A directory that cannot be made is a store that cannot be written: said there. */
const makeRoot = (root: string, log: Log): void => {
  try {
    mkdirSync(root, { recursive: true, mode: 0o711 });
  } catch (error) {
    log("error", `${root} could not be made: ${errorText(error)}`);
  }
};

/** What stays the same for one machine and differs between two: default IPv6 pools are derived from it. */
const hostIdentity = (): string => {
  try {
    return readFileSync("/etc/machine-id", "utf8").trim() || hostname();
  } catch {
    return hostname();
  }
};

/** What default pools keep clear of: the host's routes, its addresses and its DNS servers. */
const hostPrefixes = (host: Observed | undefined): readonly Prefix[] => {
  const routes = (host?.routes ?? []).map(({ to }) => to).filter((to) => !to.endsWith("/0"));
  const addresses = (host?.links ?? []).flatMap((link) => link.addresses.map(prefixOf));
  let resolvers: readonly Prefix[] = [];
  try {
    resolvers = parseResolvConf(readFileSync(hostResolvConf, "utf8")).nameservers.map((ip) =>
      makePrefix(ip, familyOf(ip) === 4 ? 32 : 128),
    );
  } catch {
    // A host without the file has no resolvers to keep clear of.
  }
  return [...new Set([...routes, ...addresses, ...resolvers])];
};
