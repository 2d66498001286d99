import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { Rest } from "../../bench/rest.ts";
import type { NetworkResource, SandboxResource, ServiceResource } from "../../src/api/resources.ts";
import { fewest, grows, notEqual, thirds } from "./flat.ts";

/** What is sampled at every point of the churn at which nothing is there. */
type Sample = Readonly<Record<string, number>>;

const run = (program: string, ...args: readonly string[]): string =>
  execFileSync(program, args, { encoding: "utf8", maxBuffer: 1 << 26 });
const lines = (text: string): number => text.split("\n").filter((line) => line !== "").length;
const files = (path: string): number => (existsSync(path) ? readdirSync(path).length : 0);

/** What is churned: a daemon, which stays the same process, and the store of global scope, which is restarted now and then. */
export interface SoakSubject {
  readonly pid: number;
  readonly socket: string;
  /** Of the shared store, all of them. */
  readonly storeKeys: () => readonly string[];
  /** Kills the shared store and starts it again. */
  readonly restartStore: () => Promise<void>;
}

/** Those with the store, and what the kernel says of multicast on each bridge (IGMP), which it tracks for ten minutes. */
const otherFlows = "src=127.0.0.1 dst=127.0.0.1|dst=224.0.0.";

const sample = ({ pid, storeKeys }: SoakSubject): Sample => ({
  "rss KiB": Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]),
  descriptors: files(`/proc/${pid}/fd`),
  threads: files(`/proc/${pid}/task`),
  "namespaces of threads": new Set(
    readdirSync(`/proc/${pid}/task`).map((task) => run("readlink", `/proc/${pid}/task/${task}/ns/net`)),
  ).size,
  links: lines(run("ip", "-br", "link")),
  namespaces: files("/run/docker/netns"),
  mounts: lines(run("sh", "-c", "grep nsfs /proc/self/mountinfo || true")),
  "sandbox directories": files("/var/lib/docker/network/files"),
  "lines of nft": lines(run("nft", "list", "ruleset")),
  "routes and rules": lines(run("ip", "route", "show", "table", "all")) + lines(run("ip", "rule")),
  "keys of the shared store": storeKeys().length,
  "tracked flows": lines(run("sh", "-c", `conntrack -L 2>/dev/null | grep -Ev '${otherFlows}' || true`)),
});

/** Growth that is let pass: the heap of a collected language sways, and connections to the store; the rest does not. */
const part = { "rss KiB": 0.15, descriptors: 0.1 } as const;

export interface SoakResult {
  readonly problems: readonly string[];
  readonly table: string;
  readonly rounds: number;
  readonly restarts: number;
}

const perRound = 12;
/** A round of so many has the shared store killed in its middle. */
const restarts = 4;
/** Of a round's services, in turn: two bridge networks and an overlay. */
const kinds = [
  { name: "even", type: "bridge" },
  { name: "odd", type: "bridge" },
  { name: "far", type: "overlay" },
] as const;

/** A round: networks, sandboxes with ports, services, names asked for inside; then all of it is removed. */
const round = async (rest: Rest, subject: SoakSubject, n: number): Promise<void> => {
  const networks = kinds.map(({ name }) => `${name}-${n}`);
  for (const { name, type } of kinds)
    await rest.call("POST", "/networks", { name: `${name}-${n}`, network_type: type });
  await Promise.all(
    Array.from({ length: perRound }, async (_, at) => {
      const id = await rest.call<string>("POST", "/sandboxes", {
        container_id: `c${at}`,
        port_mapping: [{ Proto: at % 2 ? 17 : 6, Port: 80, HostPort: 10_000 + at }],
      });
      const network_name = networks[at % networks.length];
      const service = await rest.call<string>("POST", "/services", { name: `s${at}`, network_name });
      await rest.call("POST", `/services/${service}/backend`, { sandbox_id: id });
    }),
  );
  if (n % restarts === 1) {
    await subject.restartStore();
    await writable(rest, n);
  }
  // Of its own network: what is not would be asked of the host's resolvers, of which there are none here.
  const services = await rest.call<ServiceResource[]>("GET", "/services");
  const sandboxes = await rest.call<SandboxResource[]>("GET", "/sandboxes");
  for (const first of kinds.keys()) {
    const { sandbox_id } = services.find(({ name }) => name === `s${first}`) ?? {};
    const { key = "" } = sandboxes.find(({ id }) => id === sandbox_id) ?? {};
    const names = Array.from({ length: 50 }, (_, at) => `s${first + ((at * kinds.length) % perRound)}`);
    const answers = run("nsenter", `--net=${key}`, "dig", "@127.0.0.11", "+short", "+tries=1", "+time=10", ...names);
    if (lines(answers) !== names.length) throw new Error(`not every name was answered:\n${answers}`);
  }
  await Promise.all(sandboxes.map(({ id }) => rest.call("DELETE", `/sandboxes/${id}`)));
  // A sandbox takes its services with it.
  for (const { id } of await rest.call<ServiceResource[]>("GET", "/services"))
    await rest.call("DELETE", `/services/${id}`, {});
  for (const { id, name } of await rest.call<NetworkResource[]>("GET", "/networks"))
    if (name !== "bridge") await rest.call("DELETE", `/networks/${id}`);
};

/** Until the shared store takes changes again. */
const writable = async (rest: Rest, n: number): Promise<void> => {
  const end = performance.now() + patience;
  for (;;) {
    try {
      await rest.call("POST", "/networks", { name: `probe-${n}`, network_type: "overlay" });
      return;
    } catch (error) {
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
};

/** Milliseconds: the kernel's worker lets go of namespaces that nobody asks for, a listener of connections that idle. */
const quiet = 8_000;
const patience = 30_000;

/**
 * The daemon at rest: as the first time, where there was one, or with nothing changed for a while. What never comes to rest is
 * sampled as it is, and not flat.
 */
const atRest = async (subject: SoakSubject, first: Sample | undefined): Promise<Sample> => {
  const isSame = (a: Sample, b: Sample) => Object.keys(a).every((name) => name in part || a[name] === b[name]);
  const began = performance.now();
  let found = sample(subject);
  let since = began;
  for (;;) {
    const now = performance.now();
    const rests = first ? isSame(found, first) : now - since > quiet;
    if (rests || now - began > patience) return found;
    await new Promise((resolve) => setTimeout(resolve, 250));
    const next = sample(subject);
    if (!isSame(next, found)) since = performance.now();
    found = next;
  }
};

/**
 * Makes and removes everything again and again, and samples the daemon and the kernel each time when nothing is left.
 */
export const runSoak = async (subject: SoakSubject, seconds: number): Promise<SoakResult> => {
  const samples: Sample[] = [];
  const end = performance.now() + seconds * 1000;
  for (let n = 0; performance.now() < end || n < fewest; n++) {
    // One of its own for each: the daemon closes connections that idle.
    const rest = new Rest(subject.socket);
    try {
      await round(rest, subject, n);
    } finally {
      rest.close();
    }
    samples.push(await atRest(subject, samples[0]));
  }
  const problems: string[] = [];
  const rows = Object.keys(samples[0] ?? {}).map((name) => {
    const series = samples.map((one) => one[name] ?? Number.NaN);
    const allowed = name in part ? part[name as keyof typeof part] : undefined;
    const wrong = allowed === undefined ? notEqual(series) : grows(series, allowed);
    if (wrong !== undefined) problems.push(`${name}: ${wrong}`);
    const { first, last } = thirds(series);
    return `${name.padEnd(24)}${String(first).padStart(10)}${String(last).padStart(10)}   ${wrong ?? "flat"}`;
  });
  const title = `${"at rest (medians)".padEnd(24)}first third last third`;
  return {
    problems,
    table: [title, ...rows].join("\n"),
    rounds: samples.length,
    restarts: Math.floor((samples.length + restarts - 2) / restarts),
  };
};
