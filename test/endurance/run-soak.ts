import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { Rest } from "../../bench/rest.ts";
import type { NetworkResource, SandboxResource, ServiceResource } from "../../src/api/resources.ts";
import { grows, notEqual, thirds } from "./flat.ts";

/** What is sampled at every point of the churn at which nothing is there. */
type Sample = Readonly<Record<string, number>>;

const run = (program: string, ...args: readonly string[]): string =>
  execFileSync(program, args, { encoding: "utf8", maxBuffer: 1 << 26 });
const lines = (text: string): number => text.split("\n").filter((line) => line !== "").length;
const files = (path: string): number => (existsSync(path) ? readdirSync(path).length : 0);

const sample = (pid: number): Sample => ({
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
  "tracked flows": lines(run("sh", "-c", "conntrack -L 2>/dev/null || true")),
});

/** Growth that is let pass: the heap of a collected language sways, tables of the kernel and threads do not. */
const part = { "rss KiB": 0.15 } as const;

export interface SoakResult {
  readonly problems: readonly string[];
  readonly table: string;
  readonly rounds: number;
}

const perRound = 12;

/** A round: networks, sandboxes with ports, services, names asked for inside; then all of it is removed. */
const round = async (rest: Rest, n: number): Promise<void> => {
  const networks = ["even", "odd"].map((name) => `${name}-${n}`);
  for (const name of networks) await rest.call("POST", "/networks", { name });
  await Promise.all(
    Array.from({ length: perRound }, async (_, at) => {
      const id = await rest.call<string>("POST", "/sandboxes", {
        container_id: `c${at}`,
        port_mapping: [{ Proto: at % 2 ? 17 : 6, Port: 80, HostPort: 10_000 + at }],
      });
      const service = await rest.call<string>("POST", "/services", { name: `s${at}`, network_name: networks[at % 2] });
      await rest.call("POST", `/services/${service}/backend`, { sandbox_id: id });
    }),
  );
  // Of its own network: what is not would be asked of the host's resolvers, of which there are none here.
  const even = (await rest.call<ServiceResource[]>("GET", "/services")).filter(({ name }) => name === "s0");
  const sandboxes = await rest.call<SandboxResource[]>("GET", "/sandboxes");
  const { key = "" } = sandboxes.find(({ id }) => id === even[0]?.sandbox_id) ?? {};
  const names = Array.from({ length: 100 }, (_, at) => `s${(at % (perRound / 2)) * 2}`);
  const answers = run("nsenter", `--net=${key}`, "dig", "@127.0.0.11", "+short", "+tries=1", "+time=2", ...names);
  if (lines(answers) !== names.length) throw new Error(`not every name was answered:\n${answers}`);
  await Promise.all(
    (await rest.call<SandboxResource[]>("GET", "/sandboxes")).map(({ id }) => rest.call("DELETE", `/sandboxes/${id}`)),
  );
  for (const { id } of await rest.call<ServiceResource[]>("GET", "/services"))
    await rest.call("DELETE", `/services/${id}`, {});
  for (const { id, name } of await rest.call<NetworkResource[]>("GET", "/networks"))
    if (name !== "bridge") await rest.call("DELETE", `/networks/${id}`);
};

/** Milliseconds: the kernel's worker lets go of namespaces that nobody asks for, a listener of connections that idle. */
const quiet = 8_000;
const patience = 30_000;

/**
 * The daemon at rest: as the first time, where there was one, or with nothing changed for a while. What never comes to rest is
 * sampled as it is, and not flat.
 */
const atRest = async (daemon: number, first: Sample | undefined): Promise<Sample> => {
  const isSame = (a: Sample, b: Sample) => Object.keys(a).every((name) => name in part || a[name] === b[name]);
  const began = performance.now();
  let found = sample(daemon);
  let since = began;
  for (;;) {
    const now = performance.now();
    const rests = first ? isSame(found, first) : now - since > quiet;
    if (rests || now - began > patience) return found;
    await new Promise((resolve) => setTimeout(resolve, 250));
    const next = sample(daemon);
    if (!isSame(next, found)) since = performance.now();
    found = next;
  }
};

/**
 * Makes and removes everything again and again, and samples the daemon and the kernel each time when nothing is left.
 * @param daemon its process, which stays the same one
 */
export const runSoak = async (daemon: number, socket: string, seconds: number): Promise<SoakResult> => {
  const samples: Sample[] = [];
  const end = performance.now() + seconds * 1000;
  for (let n = 0; performance.now() < end; n++) {
    // One of its own for each: the daemon closes connections that idle.
    const rest = new Rest(socket);
    try {
      await round(rest, n);
    } finally {
      rest.close();
    }
    samples.push(await atRest(daemon, samples[0]));
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
  return { problems, table: [title, ...rows].join("\n"), rounds: samples.length };
};
