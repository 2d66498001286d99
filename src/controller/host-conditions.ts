import { errorText } from "../errors.ts";
import type { Kernel, NeighborTable } from "../linux/kernel.ts";
import { hostNamespace, type RouteSpec } from "../linux/plan.ts";
import { type Prefix, prefixFamily, prefixRange } from "../net/prefix.ts";
import type { Log } from "./context.ts";

/** A network's subnet and the links of the host that may lead to it. */
export interface OwnSubnet {
  readonly network: string;
  readonly pool: Prefix;
  readonly devices: readonly string[];
}

/** Milliseconds between two looks at the same thing. */
const pause = 1_000;
/** Milliseconds between two looks at how full the tables of neighbours are, and at others' chains. */
const neighborPause = 10_000;
/** Share of a table of neighbours that is worth a warning. */
const nearlyFull = 0.8;

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

export const neighborWarning = ({ family, entries, limit }: NeighborTable): string | undefined =>
  entries < limit * nearlyFull
    ? undefined
    : `the kernel's table of IPv${family} neighbours is nearly full, ${entries} of ${limit}: beyond it sandboxes lose connections; ` +
      `raise it with: sysctl -w net.ipv${family}.neigh.default.gc_thresh3=${limit * 4}`;

/** We change no chains of others: whose they are must let ours through. */
const forwardWarning = (chain: string, bridge: string): string => {
  const allow =
    chain === "ip filter FORWARD" || chain === "ip6 filter FORWARD"
      ? `with Docker: ${chain.startsWith("ip6") ? "ip6tables" : "iptables"} -I DOCKER-USER -i ${bridge} -j ACCEPT, and the same with -o`
      : `nft insert rule ${chain} iifname ${bridge} accept, and the same with oifname`;
  return `chain ${chain} of another program drops what this host forwards: sandboxes reach nothing outside until it lets them (${allow})`;
};

/** Conditions of the host that break networks later and elsewhere: they are looked for, and said once each. */
export class HostConditions {
  readonly #kernel: Kernel;
  readonly #log: Log;
  readonly #subnets: () => readonly OwnSubnet[];
  readonly #said = new Set<string>();
  #stop: (() => void) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #neighborsAt = Number.NEGATIVE_INFINITY;
  #dropsAt = Number.NEGATIVE_INFINITY;

  constructor(options: { readonly kernel: Kernel; readonly log: Log; readonly subnets: () => readonly OwnSubnet[] }) {
    this.#kernel = options.kernel;
    this.#log = options.log;
    this.#subnets = options.subnets;
  }

  /** Looks at the host's routes whenever they change, from now on. */
  async watch(): Promise<void> {
    this.#stop = await this.#kernel.watchRoutes(() => {
      this.#timer ??= setTimeout(() => {
        this.#timer = undefined;
        void this.#attempt(() => this.#routes());
      }, pause).unref();
    });
  }

  /** An endpoint was attached: the host will have one more neighbour. Looks now and then. */
  attached(): void {
    const now = performance.now();
    if (now - this.#neighborsAt < neighborPause) return;
    this.#neighborsAt = now;
    void this.#attempt(async () => {
      const tables = await this.#kernel.neighborTables();
      this.#say(
        "neighbours",
        tables.flatMap((table) => neighborWarning(table) ?? []).map((text) => [text.slice(0, 40), text]),
      );
    });
  }

  /** A network is there that has a way out: does another program's chain let it? Looks now and then. */
  forwards(bridge: string): void {
    const now = performance.now();
    if (now - this.#dropsAt < neighborPause) return;
    this.#dropsAt = now;
    void this.#attempt(async () => {
      const drops = await this.#kernel.forwardDrops();
      this.#say(
        "forward",
        drops.map((chain) => [chain, forwardWarning(chain, bridge)]),
      );
    });
  }

  async #routes(): Promise<void> {
    const host = await this.#kernel.observe(hostNamespace);
    const found = overlapping(host?.routes ?? [], this.#subnets()).map(({ route, subnet }): [string, string] => {
      const way = [route.via && `via ${route.via}`, route.device && `dev ${route.device}`].filter(Boolean).join(" ");
      const text = `the host's route to ${route.to} ${way} overlaps ${subnet.pool} of network ${subnet.network}: sandboxes or what is behind the route may not be reached`;
      return [`${route.to} ${way} ${subnet.network}`, text];
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
    this.#stop?.();
    this.#stop = undefined;
  }
}
