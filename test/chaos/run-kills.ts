import { Lab } from "../../src/lab/lab.ts";
import { difference, hostViewScript, viewLines } from "../faults/host-view.ts";
import { keepEvidence } from "./evidence.ts";
import { LocalWorker } from "./local-worker.ts";
import { NodeClient } from "./node-client.ts";
import { Random } from "./random.ts";
import { clear, doctored, eventuallyNone, settle } from "./settle.ts";
import { Worker, World } from "./worker.ts";

export interface KillsOptions {
  readonly store: "etcd" | "consul";
  /** SIGKILLs of daemons, one after the other, of random nodes. */
  readonly kills: number;
  /** After so many everything comes to rest and is compared. */
  readonly every: number;
  readonly seed: number;
  readonly port: number;
  readonly evidence: string;
  readonly progress?: (text: string) => void;
}

export interface KillsResult {
  readonly problems: readonly string[];
  readonly summary: string;
  readonly kills: number;
  readonly acknowledged: number;
}

const hosts = ["dnet-1", "dnet-2", "dnet-3"] as const;
const workers = 6;
/** Milliseconds that a node works before it is killed, at most: the moment is what varies. */
const longest = 2_000;

/**
 * Daemons of three nodes are killed under random load on overlay networks, with their sandboxes' ways out on bridges, and on bridge
 * networks with published ports; each starts again at once. At rest, store, nodes and kernels are compared: namespaces, links,
 * addresses, forwarding and neighbour entries, records; and the doctor of each node compares ports and rules. In the end everything
 * is removed, and links, addresses, routes, rules, the ruleset, listening sockets, namespaces and files are those of the beginning.
 */
export const runKills = async (options: KillsOptions): Promise<KillsResult> => {
  const { store, seed, port, every } = options;
  const lab = await Lab.up({ hosts: hosts.length, store, name: `kills-${store}`, port });
  try {
    const nodes = hosts.map((name) => new NodeClient(lab.host(name)));
    const world = new World();
    const clients = Array.from({ length: workers }, (_, n) => new Worker(world, nodes, new Random(seed + 1 + n)));
    const locals = nodes.map((node, n) => new LocalWorker(node, new Random(seed + 100 + n)));
    const random = new Random(seed);
    const problems: string[] = [];
    const views = () => Promise.all(hosts.map((name) => lab.host(name).run("sh", "-c", hostViewScript)));
    // Daemons are ready before their serf listens.
    await eventuallyNone(async () =>
      (await views()).flatMap((seen, n) => (seen.includes(":7946") ? [] : [`${hosts[n]} has no serf yet`])),
    );
    const before = (await views()).map((seen) => viewLines(seen));
    const began = performance.now();
    let kills = 0;
    while (kills < options.kills && problems.length === 0) {
      const load = new AbortController();
      const work = Promise.all([...clients, ...locals].map((client) => client.run(load.signal)));
      const end = Math.min(options.kills, kills + every);
      // Each node by itself: now and then all of them are gone.
      const killer = async (name: string): Promise<void> => {
        while (kills < end) {
          kills++;
          await new Promise((resolve) => setTimeout(resolve, random.next() * longest));
          const host = lab.host(name);
          await host.kill();
          await host.start();
        }
      };
      await Promise.all(hosts.map(killer));
      load.abort();
      await work;
      const found = [...(await settle(lab, nodes)), ...(await eventuallyNone(() => doctored(lab, nodes)))];
      problems.push(...found.map((text) => `after ${kills} kills: ${text}`));
      const seconds = ((performance.now() - began) / 1000).toFixed(0);
      options.progress?.(`${kills} kills in ${seconds} s, ${problems.length} differences`);
    }
    problems.push(...(await clear(lab, nodes)).map((text) => `cleared: ${text}`));
    const left = async () =>
      (await views()).flatMap((seen, n) =>
        difference(before[n] ?? "", viewLines(seen)).map((line) => `${hosts[n]}: ${line}`),
      );
    problems.push(...(await eventuallyNone(left)).map((text) => `in the end: ${text}`));
    const { history } = world;
    const onBridges = locals.reduce((sum, local) => sum + local.acknowledged, 0);
    const acknowledged =
      onBridges + history.filter(({ outcome, kind }) => outcome === "ok" && !kind.startsWith("read-")).length;
    const seconds = ((performance.now() - began) / 1000).toFixed(0);
    const summary = `kills on ${store}: ${kills} SIGKILLs of daemons on 3 nodes in ${seconds} s, seed ${seed}, ${acknowledged} changes acknowledged (${onBridges} on bridges), ${problems.length} differences`;
    if (problems.length > 0) keepEvidence(options.evidence, lab, hosts, history, problems);
    return { problems, summary, kills, acknowledged };
  } finally {
    await lab.down();
  }
};
