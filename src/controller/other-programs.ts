import { type ForwardDrop, letsThrough, letThroughCommands } from "../linux/forward-drops.ts";
import type { HostProbe } from "../linux/host-probe.ts";
import type { Kernel } from "../linux/kernel.ts";
import { hostNamespace } from "../linux/plan.ts";
import { type Prefix, parsePrefix, prefixFamily } from "../net/prefix.ts";
import { type Context, driverNetwork, usableDriver } from "./context.ts";

/** What other programs on this host do to networks of ours. Their rules and links are looked at, and never changed. */

/** A network with a bridge on this host. */
export interface BridgedNetwork {
  readonly name: string;
  readonly bridge: string;
  readonly internal: boolean;
  readonly subnets: readonly Prefix[];
}

/** A network's subnet and the links of the host that may lead to it. */
export interface OwnSubnet {
  readonly network: string;
  readonly pool: Prefix;
  readonly devices: readonly string[];
}

export const bridgedNetworks = (context: Context): readonly BridgedNetwork[] =>
  [...context.state.networks.values()].flatMap((record) => {
    const part = usableDriver(context, record)?.firewall(driverNetwork(context, record));
    if (!part) return [];
    return [{ name: record.name, bridge: part.bridge, internal: part.internal, subnets: part.subnets }];
  });

export const ownSubnets = (context: Context): readonly OwnSubnet[] =>
  bridgedNetworks(context).flatMap(({ name, bridge, subnets }) =>
    subnets.map((pool) => ({ network: name, pool, devices: [bridge] })),
  );

/** A chain that drops what goes through this host to a network or from it. */
export interface Blocked {
  readonly network: BridgedNetwork;
  readonly drop: ForwardDrop;
  /** What lets it through, as commands of a shell. */
  readonly commands: string;
}

/** Networks with a way out that a chain of another program closes. */
export const blockedNetworks = async (
  kernel: Kernel,
  networks: readonly BridgedNetwork[],
  signal?: AbortSignal,
): Promise<readonly Blocked[]> => {
  const open = networks.filter(({ internal }) => !internal);
  if (open.length === 0) return [];
  const drops = await kernel.forwardDrops(signal);
  if (drops.length === 0) return [];
  const routes = (await kernel.observe(hostNamespace, signal))?.routes ?? [];
  return drops.flatMap((drop) => {
    const uplink = routes.find(({ to }) => to.endsWith("/0") && drop.families.includes(prefixFamily(to)))?.device;
    return open
      .filter(
        ({ subnets, bridge }) =>
          subnets.some((pool) => drop.families.includes(prefixFamily(pool))) && !letsThrough(drop, bridge),
      )
      .map((network) => ({ network, drop, commands: letThroughCommands(drop, network.bridge, uplink) }));
  });
};

/** The bridge that Docker takes where it finds one of the name, with whatever is on it. */
export const dockerBridge = "docker0";

/** What Docker gives that bridge, whatever routes the host has: it is kept clear of where Docker is here, also while it does not run. */
export const dockerPool: Prefix = parsePrefix("172.17.0.0/16");

/** True where Docker runs on this host or has run: what it leaves, where it keeps it unless it is told otherwise. */
export const dockerIsHere = async (probe: HostProbe): Promise<boolean> =>
  (await probe.names("/var/run")).includes("docker.sock") ||
  (await probe.names("/var/lib/docker/network/files")).includes("local-kv.db");

/** The network of ours that is on Docker's bridge, where Docker is here: both give out the same addresses on it. */
export const sharedWithDocker = async (
  probe: HostProbe,
  networks: readonly BridgedNetwork[],
): Promise<BridgedNetwork | undefined> => {
  const network = networks.find(({ bridge }) => bridge === dockerBridge);
  return network && (await dockerIsHere(probe)) ? network : undefined;
};

/** What to do about that; the default network's bridge is chosen anew when it is made anew. */
export const shareRemedy = ({ name }: BridgedNetwork, defaultNetwork: string): string => {
  const anew =
    name === defaultNetwork
      ? "restart the daemon, which makes it anew on a bridge of its own"
      : "make it anew with another com.docker.network.bridge.name";
  return `dnet network rm ${name}; ${anew}; then restart Docker`;
};
