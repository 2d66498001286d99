import { errorText } from "../errors.ts";
import type { HostProbe } from "../linux/host-probe.ts";
import type { Kernel } from "../linux/kernel.ts";
import { hostNamespace, type NamespaceRef, type RouteSpec } from "../linux/plan.ts";
import { prefixFamily, prefixRange } from "../net/prefix.ts";
import type { Log } from "./context.ts";
import { fullTables, neighborWarning } from "./neighbor-limit.ts";
import {
  type BridgedNetwork,
  blockedNetworks,
  dockerBridge,
  type OwnSubnet,
  sharedWithDocker,
  shareRemedy,
} from "./other-programs.ts";

/** Milliseconds from a change of routes to the look at them: networks that come and go change them too, and reading all costs. */
const pause = 5_000;
/** Milliseconds between two looks at how full the tables of neighbours are. */
const neighborPause = 10_000;
/** Milliseconds between two looks at what other programs do: all rules of the host are read for it. */
const othersPause = 10_000;

/** Routes that lead what is for one of our subnets elsewhere. */
export const overlapping = (
  routes: readonly RouteSpec[],
  subnets: readonly OwnSubnet[],
): readonly { readonly route: RouteSpec; readonly subnet: OwnSubnet }[] => {
  const own = new Set(subnets.flatMap(({ devices }) => devices));
  // Most routes of a host with many networks are theirs, or to link-local addresses: of each interface one.
  const foreign = routes.filter(
    ({ to, device = "" }) => !to.endsWith("/0") && !to.startsWith("fe80:") && !own.has(device),
  );
  if (foreign.length === 0) return [];
  const ranges = subnets.map((subnet) => ({ subnet, family: prefixFamily(subnet.pool), ...prefixRange(subnet.pool) }));
  return foreign.flatMap((route) => {
    const [family, { first, last }] = [prefixFamily(route.to), prefixRange(route.to)];
    return ranges
      .filter((range) => range.family === family && range.first <= last && first <= range.last)
      .map(({ subnet }) => ({ route, subnet }));
  });
};

/** A route as `ip route` has it. */
export const routeText = ({ to, via, device }: RouteSpec): string =>
  [to, via && `via ${via}`, device && `dev ${device}`].filter(Boolean).join(" ");

/** What is asked for to see what other programs on the host do. */
export interface OtherPrograms {
  readonly networks: () => readonly BridgedNetwork[];
  readonly probe: HostProbe;
  readonly defaultNetwork: string;
}

/** Conditions of the host that break networks later and elsewhere: they are looked for, and said once each. */
export class HostConditions {
  readonly #kernel: Kernel;
  readonly #log: Log;
  readonly #subnets: () => readonly OwnSubnet[];
  readonly #others: OtherPrograms;
  readonly #said = new Set<string>();
  #stop: (() => void) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #neighborsAt = Number.NEGATIVE_INFINITY;
  #othersAt = Number.NEGATIVE_INFINITY;
  #othersTimer: NodeJS.Timeout | undefined;

  constructor(options: {
    readonly kernel: Kernel;
    readonly log: Log;
    readonly subnets: () => readonly OwnSubnet[];
    readonly others: OtherPrograms;
  }) {
    this.#others = options.others;
    this.#kernel = options.kernel;
    this.#log = options.log;
    this.#subnets = options.subnets;
  }

  /** Looks at the host's routes whenever they change, from now on. */
  async watch(): Promise<void> {
    const changed = (): void => {
      this.#timer ??= setTimeout(() => {
        this.#timer = undefined;
        void this.#attempt(() => this.#routes());
      }, pause).unref();
    };
    try {
      this.#stop = await this.#kernel.watchRoutes(changed);
    } catch (error) {
      this.#log("warning", `routes that appear later are not looked at: ${errorText(error)}`);
    }
  }

  /**
   * An endpoint was attached: the host will have one more neighbour, and one who wants out. Looks now and then.
   * @param withPeers namespaces with permanent neighbours of ours
   */
  attached(withPeers: () => readonly NamespaceRef[]): void {
    this.lookAtOthers();
    const now = performance.now();
    if (now - this.#neighborsAt < neighborPause) return;
    this.#neighborsAt = now;
    void this.#attempt(async () => {
      const tables = await fullTables(this.#kernel, withPeers);
      this.#say(
        "neighbours",
        tables.map((table) => [`IPv${table.family}`, neighborWarning(table)]),
      );
    });
  }

  /** Networks are there, or their endpoints: do other programs let them work? Looks at once, or when the last look is long enough ago. */
  lookAtOthers(): void {
    if (this.#othersTimer) return;
    const wait = Math.max(0, this.#othersAt + othersPause - performance.now());
    this.#othersTimer = setTimeout(() => {
      this.#othersTimer = undefined;
      const networks = this.#others.networks();
      if (networks.length === 0) return;
      this.#othersAt = performance.now();
      void this.#attempt(() => this.#lookAtOthers(networks));
    }, wait).unref();
  }

  async #lookAtOthers(networks: readonly BridgedNetwork[]): Promise<void> {
    const { probe, defaultNetwork } = this.#others;
    const shared = await sharedWithDocker(probe, networks);
    const sharing = `${dockerBridge} carries our network ${shared?.name}, and Docker, which is on this host, uses it too: both give out the same addresses`;
    this.#say("docker", shared ? [[shared.name, `${sharing} (${shareRemedy(shared, defaultNetwork)})`]] : []);
    const blocked = await blockedNetworks(this.#kernel, networks);
    // One network stands for all: each has its own in what the doctor finds.
    const first = new Map(blocked.toReversed().map((one) => [one.drop.chain, one]));
    this.#say(
      "forward",
      [...first].map(([chain, { network, commands }]) => [
        chain,
        `chain ${chain} of another program drops what this host forwards: containers of network ${network.name} reach nothing outside until it lets them (${commands}); dnet doctor says it for each network`,
      ]),
    );
  }

  async #routes(): Promise<void> {
    const host = await this.#kernel.observe(hostNamespace);
    const found = overlapping(host?.routes ?? [], this.#subnets()).map(({ route, subnet }): [string, string] => {
      const way = routeText(route);
      const text = `the host's route to ${way} overlaps ${subnet.pool} of network ${subnet.network}: sandboxes or what is behind the route may not be reached`;
      return [`${way} ${subnet.network}`, text];
    });
    this.#say("routes", found);
  }

  /** Says what was not said yet; what is over may be said again. */
  #say(topic: string, found: readonly (readonly [key: string, text: string])[]): void {
    const keys = new Set(found.map(([key]) => `${topic} ${key}`));
    for (const key of this.#said) if (key.startsWith(`${topic} `) && !keys.has(key)) this.#said.delete(key);
    for (const [key, text] of found) {
      if (this.#said.has(`${topic} ${key}`)) continue;
      this.#said.add(`${topic} ${key}`);
      this.#log("warning", text);
    }
  }

  async #attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (this.#stop) this.#log("debug", `could not look at the host: ${errorText(error)}`);
    }
  }

  close(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#othersTimer);
    this.#stop?.();
    this.#stop = undefined;
  }
}
