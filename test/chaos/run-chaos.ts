import { Lab } from "../../src/lab/lab.ts";
import { checkHistory } from "./check-history.ts";
import { keepEvidence } from "./evidence.ts";
import { Faults } from "./faults.ts";
import type { Event } from "./history.ts";
import { NodeClient } from "./node-client.ts";
import { Random } from "./random.ts";
import { clear, settle } from "./settle.ts";
import { Worker, World } from "./worker.ts";

export interface ChaosOptions {
  readonly store: "etcd" | "consul";
  readonly seconds: number;
  readonly seed: number;
  readonly port: number;
  /** Where history and logs are put when something is wrong. */
  readonly evidence: string;
}

export interface ChaosResult {
  readonly problems: readonly string[];
  readonly summary: string;
  /** Operations that were. */
  readonly acknowledged: number;
}

const hosts = ["dnet-1", "dnet-2", "dnet-3"] as const;
const workers = 6;

/** Clients that do random things to three nodes, while nodes, network and store break; then everything is compared. */
export const runChaos = async (options: ChaosOptions): Promise<ChaosResult> => {
  const { store, seconds, seed, port } = options;
  const lab = await Lab.up({ hosts: hosts.length, store, name: `chaos-${store}`, port });
  try {
    const nodes = hosts.map((name) => new NodeClient(lab.host(name)));
    const world = new World();
    const clients = Array.from({ length: workers }, (_, n) => new Worker(world, nodes, new Random(seed + 1 + n)));
    const faults = new Faults(lab, hosts, new Random(seed));
    const signal = AbortSignal.timeout(seconds * 1000);
    await Promise.all([...clients.map((client) => client.run(signal)), faults.run(signal)]);
    const problems = (await settle(lab, nodes)).map((text) => `at rest: ${text}`);
    for (const node of nodes) await clients[0]?.read(node);
    problems.push(...checkHistory(world.history));
    problems.push(...(await clear(lab, nodes)).map((text) => `cleared: ${text}`));
    const summary = [
      `chaos on ${store}: ${seconds} s, seed ${seed}: ${count(world.history)}`,
      ...Object.entries(faults.counts).map(([kind, n]) => `${n} ${kind}`),
      `${problems.length} problems`,
    ].join(", ");
    if (problems.length > 0) keepEvidence(options.evidence, lab, hosts, world.history, problems);
    return { problems, summary, acknowledged: acknowledgedIn(world.history) };
  } finally {
    await lab.down();
  }
};

const isRead = ({ kind }: Event): boolean => kind.startsWith("read-");

const acknowledgedIn = (history: readonly Event[]): number =>
  history.filter((event) => event.outcome === "ok" && !isRead(event)).length;

const count = (history: readonly Event[]): string => {
  const reads = history.filter(isRead);
  const of = (outcome: string) => history.filter((event) => event.outcome === outcome && !isRead(event)).length;
  return `${history.length - reads.length} operations (${of("ok")} ok, ${of("refused")} refused, ${of("unknown")} unknown), ${reads.length} reads`;
};
