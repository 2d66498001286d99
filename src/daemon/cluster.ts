import { hostname } from "node:os";
import { join } from "node:path";
import { type Advertise, advertiseAddress } from "../cluster/advertise.ts";
import { Cluster } from "../cluster/cluster.ts";
import { findProgram } from "../cluster/serf/agent.ts";
import type { HostPlace } from "../controller/assemble.ts";
import { noService } from "../errors.ts";
import type { Observed } from "../linux/kernel.ts";
import { addressOf } from "../net/prefix.ts";
import type { Store } from "../store/store.ts";
import type { Config } from "./config.ts";
import { openGlobalStore } from "./global-store.ts";
import type { Logger } from "./logger.ts";

/** What makes this daemon a node among others. */

const isClustered = (config: Config): boolean =>
  config.scopes?.global?.client !== undefined ||
  Boolean(config.cluster?.discovery) ||
  config.orchestration?.agent === true;

/** Of the original's two places for it the newer one counts where both are set. */
const configuredAddress = ({ cluster, orchestration }: Config): string | undefined =>
  cluster?.address ?? (orchestration?.agent ? orchestration.bind : undefined);

/** Where other hosts reach this one, found once the host's links and routes are known. */
export class AdvertisedPlace {
  readonly #config: Config;
  readonly #logger: Logger;
  readonly #hostMode: boolean;
  advertise: Advertise | undefined;

  /** @param env `_OVERLAY_HOST_MODE`, with any value, keeps overlays in the host's own namespace, as in the original */
  constructor(config: Config, logger: Logger, env: Readonly<Record<string, string | undefined>>) {
    this.#config = config;
    this.#logger = logger;
    this.#hostMode = env._OVERLAY_HOST_MODE !== undefined;
  }

  /** @throws NetworkError `invalid-advertise` */
  of(host: Observed | undefined): HostPlace {
    // A host that is alone needs no warning that nobody reaches it.
    const log: Logger["log"] = (...line) => isClustered(this.#config) && this.#logger.log(...line);
    this.advertise = advertiseAddress(configuredAddress(this.#config), host, log);
    const { address } = this.advertise;
    const link = host?.links.find(({ addresses }) => addresses.some((own) => addressOf(own) === address));
    return {
      vtep: address,
      overlayHostMode: this.#hostMode,
      ...(link && link.name !== "lo" && { underlayMtu: link.mtu }),
    };
  }
}

/** Registers the node and starts its gossip; undefined for a daemon that is configured to be alone. */
export const startCluster = async (parts: {
  readonly config: Config;
  readonly store: Store | undefined;
  readonly place: AdvertisedPlace;
  readonly instance: string;
  readonly logger: Logger;
  readonly version: string;
}): Promise<Cluster | undefined> => {
  const { config, store, place, instance, logger, version } = parts;
  const { cluster = {}, daemon = {} } = config;
  if (!isClustered(config) || !place.advertise) return undefined;
  const { agent = false, peer } = config.orchestration ?? {};
  if (agent && findProgram("serf") === undefined) {
    throw noService(
      "no-serf",
      "orchestration.agent: without a shared store the nodes need serf, which is not installed",
      {
        hint: "install Debian's serf, or configure [scopes.global.client]",
      },
    );
  }
  const discovery = cluster.discovery || (agent && peer ? `nodes://${peer}` : undefined);
  const client = config.scopes?.global?.client;
  return Cluster.start({
    ...(store && client && { store, storePlace: `${client.provider}://${client.address}` }),
    openStore: ({ scheme, servers, prefix }) =>
      openGlobalStore({ provider: scheme, address: `${servers.join(",")}/${prefix}` }),
    instance,
    hostName: hostname(),
    advertise: place.advertise,
    ...(discovery && { discovery }),
    ...(cluster.heartbeat !== undefined && { heartbeat: cluster.heartbeat * 1_000 }),
    serf:
      cluster.serf === false
        ? false
        : {
            ...(cluster.serfRpcPort !== undefined && { rpcPort: cluster.serfRpcPort }),
            ...(cluster.encrypt !== undefined && { encrypt: cluster.encrypt }),
            ...(cluster.serfPort !== undefined && { port: cluster.serfPort }),
            ...(cluster.serfRpcPort !== undefined && { rpcPort: cluster.serfRpcPort }),
            runDir: join(daemon.execRoot ?? "/var/run/docker", "serf", instance),
            debug: logger.level === "debug",
          },
    version,
    log: (level, message, fields) => logger.log(level, message, fields),
  });
};
