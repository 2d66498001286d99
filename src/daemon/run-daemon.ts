import { readFileSync } from "node:fs";
import type { RequestListener, Server } from "node:http";
import { loneNode } from "../api/node-routes.ts";
import { createApi } from "../api/server.ts";
import type { Cluster } from "../cluster/cluster.ts";
import type { Log } from "../controller/context.ts";
import type { Libnetwork } from "../controller/libnetwork.ts";
import { StorelessStore } from "../controller/storeless/storeless-store.ts";
import { createLibnetwork, type Seams } from "../create-libnetwork.ts";
import { errorText, internal, NetworkError } from "../errors.ts";
import { descriptorLimit } from "../linux/descriptors.ts";
import { AdvertisedPlace, startCluster } from "./cluster.ts";
import { type Config, parseConfig } from "./config.ts";
import { openGlobalStore } from "./global-store.ts";
import { addressText, defaultSocket, isLoopback, type ListenAddress, listen, parseListenAddress } from "./listen.ts";
import { createLogger, type Logger, parseLevel } from "./logger.ts";
import { keepHeapSmall } from "./small-heap.ts";

export const defaultConfigPath = "/etc/default/libnetwork.toml";

export interface DaemonOptions {
  readonly debug: boolean;
  /** Name of a level; the caller has checked it. */
  readonly logLevel: string;
  /** From `-H`; then `DNET_HOST`, then `[daemon] hosts`, then the unix socket. */
  readonly host?: string;
  /** From `-c`; then `LIBNETWORK_CFG`, then the default path, which may be missing. */
  readonly configPath?: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly version: string;
  readonly write: (line: string) => void;
}

/**
 * Runs the daemon until a signal ends it; sandboxes go on running after it.
 * @returns the exit status
 */
export const runDaemon = async (options: DaemonOptions): Promise<number> => {
  const logger = createLogger(parseLevel(options.logLevel) ?? "info", options.write);
  if (options.debug) logger.level = "debug";
  try {
    requireDescriptors();
    const config = readConfig(options, logger);
    if (config.daemon?.debug) logger.level = "debug";
    await serve(options, config, logger);
    return 0;
  } catch (error) {
    logger.log("error", `dnet Daemon exited with an error : ${errorText(error)}${hintOf(error)}`);
    return 1;
  }
};

/** Files without which nothing works: Node's own, the store, the kernel worker, programs that it starts, a socket and a client. */
const leastDescriptors = 64;

/** Said before anything is begun: below it everything fails in its own way. */
const requireDescriptors = (): void => {
  const limit = descriptorLimit();
  if (limit >= leastDescriptors) return;
  throw internal("few-descriptors", `it may open ${limit} files only, and needs ${leastDescriptors} at least`, {
    hint: "start it with a higher limit: LimitNOFILE= of systemd, or ulimit -n",
  });
};

const hintOf = (error: unknown): string =>
  error instanceof NetworkError && error.hint !== undefined ? ` (${error.hint})` : "";

/** A file that was asked for must be there and right; without one, a missing default file means defaults. */
const readConfig = (options: DaemonOptions, logger: Logger): Config => {
  const asked = options.configPath || options.env.LIBNETWORK_CFG;
  const path = asked || defaultConfigPath;
  let source: string;
  try {
    source = readFileSync(path, "utf8");
  } catch (cause) {
    const { code } = cause as { code?: string };
    if (!asked && code === "ENOENT") {
      logger.log("info", `no configuration file ${path}: defaults are used`);
      return {};
    }
    const reason = code === "ENOENT" ? "no such file or directory" : String(code);
    throw new NetworkError("bad-request", "no-config", `Error parsing config open ${path}: ${reason}`, { cause });
  }
  return parseConfig(source, path);
};

const listenAddresses = (options: DaemonOptions, config: Config): readonly ListenAddress[] => {
  const chosen = options.host || options.env.DNET_HOST;
  const hosts = chosen ? chosen.split(",") : (config.daemon?.hosts ?? []);
  return (hosts.length > 0 ? hosts : [defaultSocket]).map((host) => parseListenAddress(host.trim()));
};

const warnIgnored = ({ datastore }: Config, logger: Logger): void => {
  if (datastore) logger.log("warning", "[datastore] has no effect: use [scopes.global.client]");
};

/**
 * What `DNET_FAULTS` asks for: a daemon that fails or dies on purpose, for tests. It says so as loudly as it can.
 * @throws NetworkError `invalid-faults`
 */
const faultsOf = async ({ env }: DaemonOptions, logger: Logger): Promise<Seams | undefined> => {
  const { DNET_FAULTS: text } = env;
  if (text === undefined) return undefined;
  const { parseFaults } = await import("../faults/faults.ts");
  const { faultySeams } = await import("../faults/faulty-seams.ts");
  const faults = parseFaults(text);
  logger.log("error", `DNET_FAULTS=${text}: this daemon will fail or die on purpose; never run it so but in tests`);
  return faultySeams(faults);
};

const serve = async (options: DaemonOptions, config: Config, logger: Logger): Promise<void> => {
  const addresses = listenAddresses(options, config);
  warnIgnored(config, logger);
  const daemon = config.daemon ?? {};
  const seams = await faultsOf(options, logger);
  const client = config.scopes?.global?.client;
  const store = client && (await openGlobalStore(client));
  const stopped = stopSignal(logger);
  const began = performance.now();
  const place = new AdvertisedPlace(config, logger, options.env);
  const log: Log = (level, message) => logger.log(level, message);
  let cluster: Cluster | undefined;
  let storeless: StorelessStore | undefined;
  let controller: Libnetwork | undefined;
  try {
    controller = await createLibnetwork({
      ...(daemon.dataDir !== undefined && { dataDir: daemon.dataDir }),
      ...(daemon.execRoot !== undefined && { execRoot: daemon.execRoot }),
      ...(daemon.firewall !== undefined && { firewall: daemon.firewall }),
      ...(daemon.dnsTtl !== undefined && { dnsTtl: daemon.dnsTtl }),
      ...(daemon.repair !== undefined && { repairEvery: daemon.repair * 1_000 }),
      ...(daemon.defaultNetwork !== undefined && { defaultNetwork: daemon.defaultNetwork }),
      ...(daemon.defaultDriver !== undefined && { defaultDriver: daemon.defaultDriver }),
      ...(store && { globalStore: store }),
      ...(config.orchestration?.agent && {
        globalStore: async (local) => {
          storeless = await StorelessStore.open(local, log);
          return storeless;
        },
      }),
      place: (host) => place.of(host),
      ...(config.overlay && { overlay: presenceOptions(config.overlay) }),
      ...(seams && { seams }),
      nodeName: (id) => cluster?.nodes().find((node) => node.id === id)?.name ?? id,
      log,
    });
    cluster = await startCluster({ config, store, place, instance: controller.node, logger, version: options.version });
    if (cluster) storeless?.connect(cluster, controller.node);
    const api = createApi({
      controller,
      nodes: cluster ?? loneNode(controller.node, options.version),
      version: options.version,
      allowedHosts: daemon.hostNames ?? [],
      log: (level, message) => logger.log(level, message),
    });
    const servers = await openServers(addresses, api, logger);
    keepHeapSmall();
    logger.log("info", `dnet ${options.version} is ready`, { after: `${Math.round(performance.now() - began)}ms` });
    logger.log("info", `received ${await stopped}: stopping; sandboxes keep running`);
    await closeServers(servers);
  } finally {
    await storeless?.disconnect();
    await cluster?.close();
    await controller?.close();
    await storeless?.close();
    await store?.close();
  }
};

const presenceOptions = ({ peersAhead, repair, idle }: NonNullable<Config["overlay"]>) => ({
  ...(peersAhead !== undefined && { peersAhead }),
  ...(repair !== undefined && { repairEvery: repair * 1_000 }),
  ...(idle !== undefined && { idleAfter: idle }),
});

const openServers = async (
  addresses: readonly ListenAddress[],
  api: RequestListener,
  logger: Logger,
): Promise<readonly Server[]> => {
  const servers: Server[] = [];
  for (const address of addresses) {
    const server = await listen(address, api);
    servers.push(server);
    const bound = server.address();
    const where = addressText(address, typeof bound === "object" && bound !== null ? bound.port : undefined);
    if (address.kind === "tcp" && !isLoopback(address.host)) {
      logger.log(
        "warning",
        `API on ${where} has neither TLS nor authentication: whoever reaches it controls this host`,
      );
    }
    logger.log("info", `API listens on ${where}`);
  }
  return servers;
};

const closeServers = async (servers: readonly Server[]): Promise<void> => {
  for (const server of servers) {
    server.close();
    // A client that keeps its connection does not keep the daemon.
    server.closeIdleConnections();
    setTimeout(() => server.closeAllConnections(), 2_000).unref();
  }
  await Promise.all(
    servers.map((server) => new Promise((done) => (server.listening ? server.once("close", done) : done(undefined)))),
  );
};

/** Resolves with the first signal that ends the daemon. USR1 prints what it holds; errors nobody caught do not end it. */
const stopSignal = (logger: Logger): Promise<string> => {
  process.on("SIGUSR1", () => {
    const { rss, heapUsed } = process.memoryUsage();
    const resources = process.getActiveResourcesInfo().length;
    logger.log("info", `rss ${rss >> 20} MiB, heap ${heapUsed >> 20} MiB, ${resources} active resources`);
  });
  for (const event of ["uncaughtException", "unhandledRejection"] as const) {
    process.on(event, (error: unknown) => {
      logger.log("error", `${event}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    });
  }
  return new Promise((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"] as const)
      process.once(signal, () => resolve(signal));
  });
};
