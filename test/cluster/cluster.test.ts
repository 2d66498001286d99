import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Cluster, type ClusterOptions, type SerfOptions } from "../../src/cluster/cluster.ts";
import { parseIp } from "../../src/net/ip.ts";
import { MemoryStore } from "../../src/store/memory/memory-store.ts";
import type { Store } from "../../src/store/store.ts";
import { enterOwnHost, eventually, expectNothingLeft, run, shell } from "../own-host.ts";

/** Real serf agents in a host of the test's own; each node has an address of the loopback. */

const patient = 45_000;
let directory: string;
let store: Store;
let lines: string[];
const clusters: Cluster[] = [];

beforeAll(() => enterOwnHost());
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "dnet-cluster-"));
  store = new MemoryStore();
  lines = [];
  shell("for n in 1 2 3; do ip address add 10.77.0.$n/32 dev lo; done");
});
afterEach(async () => {
  await Promise.all(clusters.splice(0).map((cluster) => cluster.close()));
  await store.close();
  shell("for n in 1 2 3; do ip address delete 10.77.0.$n/32 dev lo; done");
  expect(existsSync(directory) ? run("find", directory, "-type", "f") : "").toBe("");
  rmSync(directory, { recursive: true, force: true });
  expect(agents()).toEqual([]);
});
afterAll(() => expectNothingLeft());

const inode = (pid: string): string => {
  try {
    return run("readlink", `/proc/${pid}/ns/net`);
  } catch {
    return "";
  }
};

/** Process ids of the agents in the test's host. */
const agents = (): readonly string[] => {
  const here = inode("self");
  return run("sh", "-c", "pgrep -x serf || true")
    .split("\n")
    .filter((pid) => pid !== "" && inode(pid) === here);
};

const start = async (n: number, more: Partial<ClusterOptions> = {}, serf: Partial<SerfOptions> = {}) => {
  const cluster = await Cluster.start({
    store,
    instance: `0000000${n}`,
    hostName: `host${n}`,
    advertise: { address: parseIp(`10.77.0.${n}`), local: true },
    version: "1.2.3",
    serf: { runDir: join(directory, `serf${n}`), ...serf },
    log: (level, message, fields) => lines.push(`${n} ${level} ${message} ${JSON.stringify(fields ?? {})}`),
    ...more,
  });
  clusters.push(cluster);
  return cluster;
};

/** Serf's status of each node, in order of their ids, as a node sees it. */
const statuses = (cluster: Cluster): readonly (string | undefined)[] =>
  [...cluster.nodes()].sort((a, b) => (a.id < b.id ? -1 : 1)).map(({ serf }) => serf?.status);

const sees = (cluster: Cluster, ...expected: readonly string[]) =>
  eventually(
    `statuses ${expected} (there are ${statuses(cluster)})\n${lines.slice(-30).join("\n")}`,
    () => statuses(cluster).join() === expected.join(),
    patient,
  );

/** Waits until every node sees every other alive. */
const together = async (...nodes: readonly Cluster[]) => {
  for (const node of nodes) await sees(node, ...nodes.map(() => "alive"));
};

const pidOf = (n: number): number =>
  (JSON.parse(readFileSync(join(directory, `serf${n}`, "agent.pid"), "utf8")) as { pid: number }).pid;

describe("a cluster with serf", () => {
  it("of three nodes finds itself through the store, and sees who fails and who leaves", async () => {
    const [one, two, three] = [await start(1), await start(2), await start(3)];
    await together(one, two, three);
    expect(one.nodes().map(({ id, state, self, serfPort }) => [id, state, self, serfPort])).toEqual([
      ["00000001", "alive", true, 7946],
      ["00000002", "alive", false, 7946],
      ["00000003", "alive", false, 7946],
    ]);
    expect(lines.filter((line) => line.includes("Watch triggered with 3 nodes"))).not.toEqual([]);
    await eventually("round-trip times", () => one.nodes().every(({ self, rtt }) => self || (rtt ?? 0) > 0), patient);

    const seen: string[] = [];
    const abort = new AbortController();
    const reading = (async () => {
      for await (const { kind, member } of one.membershipEvents(abort.signal)) seen.push(`${kind} ${member.name}`);
    })();
    process.kill(pidOf(2), "SIGSTOP");
    await sees(one, "alive", "failed", "alive");
    process.kill(pidOf(2), "SIGCONT");
    await together(one, two, three);
    await three.close();
    await sees(one, "alive", "alive", "left");
    await eventually("state left", () => one.nodes()[2]?.state === "left");
    abort.abort();
    await reading;
    expect(seen).toEqual(["failed host2-00000002", "join host2-00000002", "leave host3-00000003"]);
  }, 180_000);
});
