import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Cluster } from "../../src/cluster/cluster.ts";
import type { ClusterOptions, SerfOptions } from "../../src/cluster/cluster-options.ts";
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

let socketsBefore = 0;

beforeAll(() => {
  enterOwnHost();
  socketsBefore = openSockets();
});
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "dnet-cluster-"));
  store = new MemoryStore();
  lines = [];
  shell("for n in 1 2 3; do ip address add 10.77.0.$n/32 dev lo; ip address add fd77::$n/128 dev lo nodad; done");
});
afterEach(async () => {
  await Promise.all(clusters.splice(0).map((cluster) => cluster.close()));
  await store.close();
  shell("for n in 1 2 3; do ip address delete 10.77.0.$n/32 dev lo; ip address delete fd77::$n/128 dev lo; done");
  expect(run("find", directory, "-path", "*serf*", "-type", "f")).toBe("");
  rmSync(directory, { recursive: true, force: true });
  expect(agents()).toEqual([]);
});
afterAll(async () => {
  await eventually("all sockets closed", () => openSockets() === socketsBefore);
  expectNothingLeft();
});

/** Sockets of the test's own process. */
const openSockets = (): number =>
  readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith("socket:");
    } catch {
      return false;
    }
  }).length;

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

/** Another program that holds a cluster, as a daemon would. */
const holder = async (n: number): Promise<ChildProcess> => {
  const program = fileURLToPath(new URL("hold-cluster.ts", import.meta.url));
  const args = [program, join(directory, `serf${n}`), `10.77.0.${n}`, `0000000${n}`];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    said += chunk.toString();
    lines.push(...chunk.toString().split("\n"));
  });
  await eventually("the agent of another program", () => said.includes("listens on"), patient);
  return child;
};

const text = (value: string): Buffer => Buffer.from(value);

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

  it("goes on after an agent's death: members, handlers and readers stay", async () => {
    const [one, two] = [await start(1), await start(2)];
    await together(one, two);
    const heard: string[] = [];
    one.onUserEvent("ping", (payload) => {
      heard.push(payload.toString());
    });
    const before = pidOf(1);
    process.kill(before, "SIGKILL");
    await eventually("another agent", () => agents().length === 2 && pidOf(1) !== before, patient);
    await together(one, two);
    await eventually("a user event to the new agent", async () => {
      await two.userEvent("ping", text("pong"));
      return heard.includes("pong");
    });
    expect(lines.filter((line) => line.includes("the serf agent has ended (signal SIGKILL)"))).toHaveLength(1);
    expect(one.nodes().map(({ state }) => state)).toEqual(["alive", "alive"]);
  }, 120_000);

  it("passes queries and user events, whatever the handlers do, within serf's limits", async () => {
    const [one, two] = [await start(1), await start(2)];
    await together(one, two);
    const bytes = Buffer.from([0xff, 0x00, 0xfe]);
    two.onQuery("who", async (payload) => Buffer.concat([payload, text("two")]));
    one.onQuery("who", async () => {
      throw new Error("not me");
    });
    two.onQuery("quiet", async () => undefined);
    // A query lasts so long, whoever answers.
    const patience = 5_000;
    const ask = async (name: string, nodes?: readonly string[]) => {
      const answers: { from: string; payload: Buffer }[] = [];
      const options = { timeout: patience, ...(nodes && { nodes }) };
      for await (const answer of one.query(name, bytes, options)) answers.push(answer);
      return answers;
    };
    expect(await ask("who")).toEqual([
      { from: "host2-00000002", payload: Buffer.from([0xff, 0x00, 0xfe, ...text("two")]) },
    ]);
    expect(await ask("quiet")).toEqual([]);
    expect(await ask("who", ["host1-00000001"])).toEqual([]);
    const notMe = () => lines.filter((line) => line.includes("serf: query who: not me")).length;
    await eventually("both times it failed is said", () => notMe() >= 2);
    expect(notMe()).toBe(2);
    await expect(one.userEvent("e", Buffer.alloc(470))).rejects.toMatchObject({ code: "payload-too-large" });
    await expect(one.query("q", Buffer.alloc(700))[Symbol.asyncIterator]().next()).rejects.toMatchObject({
      code: "payload-too-large",
    });
    // What we let through, serf takes.
    await one.userEvent("e", Buffer.alloc(469, 0xff));
    two.onQuery("largest", async () => Buffer.alloc(800, 0xff));
    const answers: number[] = [];
    const nodes = ["host2-00000002"];
    for await (const { payload } of one.query("largest", Buffer.alloc(700 - 7 - 4 - 14, 0xff), {
      timeout: patience,
      nodes,
    })) {
      answers.push(payload.length);
    }
    expect(answers).toEqual([800]);
  }, 120_000);

  it("with a key takes only those who have it, and nobody else learns it", async () => {
    const encrypt = Buffer.alloc(32, 7).toString("base64");
    const discovery = "nodes://10.77.0.1,10.77.0.2,10.77.0.3";
    const [one, two] = [await start(1, { discovery }, { encrypt }), await start(2, { discovery }, { encrypt })];
    await together(one, two);
    await start(3, { discovery }, {});
    await eventually("an attempt to join", () => lines.some((line) => /^3 debug joined 0 of 2/.test(line)), patient);
    expect(one.members().map(({ name }) => name)).toEqual(["host1-00000001", "host2-00000002"]);
    const { encrypt_key, rpc_auth } = JSON.parse(readFileSync(join(directory, "serf1", "serf.json"), "utf8"));
    expect(encrypt_key).toBe(encrypt);
    const outside =
      lines.join("\n") +
      agents()
        .map((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8"))
        .join();
    expect(outside).toContain("serf1/serf.json");
    for (const secret of [encrypt_key, rpc_auth]) expect(outside).not.toContain(secret);
    for (const file of ["serf.json", "env"]) expect(statSync(join(directory, "serf1", file)).mode & 0o777).toBe(0o600);
    expect(statSync(join(directory, "serf1")).mode & 0o777).toBe(0o700);
  }, 120_000);

  it("has room for two daemons on one host: the second takes another port and says so", async () => {
    const advertise = { address: parseIp("10.77.0.1"), local: true };
    const [one, two] = [await start(1, { advertise }), await start(2, { advertise, hostName: "host1" })];
    await together(one, two);
    expect(lines).toContain("2 info port 7946 is taken on 10.77.0.1: serf listens on port 7947 {}");
    expect(one.nodes().map(({ id, name, address, serfPort }) => [id, name, address, serfPort])).toEqual([
      ["00000001", "host1", "10.77.0.1", 7946],
      ["00000002", "host1", "10.77.0.1", 7947],
    ]);
    // What serf itself says, asked from outside as the documentation has it.
    const members = shell(`. ${join(directory, "serf2", "env")}; serf members -format json`);
    const shown = (JSON.parse(members) as { members: { name: string; addr: string; status: string }[] }).members;
    expect(shown.map(({ name, addr, status }) => [name, addr, status]).sort()).toEqual([
      ["host1-00000001", "10.77.0.1:7946", "alive"],
      ["host1-00000002-7947", "10.77.0.1:7947", "alive"],
    ]);
  }, 120_000);

  it("finds itself by a file that grows, and without a store knows its nodes by gossip", async () => {
    const list = join(directory, "nodes");
    writeFileSync(list, "# nobody yet\n");
    const alone = { discovery: `file://${list}` };
    // Without the shared store.
    const bare = async (n: number) => {
      const cluster = await Cluster.start({
        ...alone,
        instance: `0000000${n}`,
        hostName: `host${n}`,
        advertise: { address: parseIp(`10.77.0.${n}`), local: true },
        version: "1.2.3",
        serf: { runDir: join(directory, `serf${n}`) },
        log: (level, message, fields) => lines.push(`${n} ${level} ${message} ${JSON.stringify(fields ?? {})}`),
      });
      clusters.push(cluster);
      return cluster;
    };
    const [one, two] = [await bare(1), await bare(2)];
    await sees(one, "alive");
    expect(one.nodes()).toHaveLength(1);
    writeFileSync(list, "10.77.0.1\n10.77.0.2:7946 # the other\n");
    await together(one, two);
    expect(one.nodes()[1]).toMatchObject({ id: "00000002", name: "host2", version: "1.2.3", state: "alive" });
    expect(lines).toContain('1 debug Watch triggered with 2 nodes {"discovery":"file"}');
    expect(lines.filter((line) => /^\d info .* joined the cluster at /.test(line))).not.toEqual([]);
    await two.close();
    await eventually("state left", () => one.nodes()[1]?.state === "left", patient);
  }, 120_000);

  it("sees that a daemon was killed", async () => {
    const child = await holder(3);
    const one = await start(1, { discovery: "nodes://10.77.0.3" });
    await sees(one, "alive", "alive");
    const abort = new AbortController();
    const event = (async () => {
      for await (const { kind, member } of one.membershipEvents(abort.signal)) return `${kind} ${member.name}`;
    })();
    child.kill("SIGKILL");
    await sees(one, "alive", "failed");
    expect(await event).toBe("failed held-00000003");
    expect(one.nodes()[0]).toMatchObject({ name: "held", state: "gone" });
    rmSync(join(directory, "serf3"), { recursive: true });
  }, 120_000);

  it("leaves no agent when a daemon is killed, and a stale one does not block the next", async () => {
    const child = await holder(1);
    const [agent = ""] = agents();
    expect(agents()).toHaveLength(1);
    child.kill("SIGKILL");
    await once(child, "exit");
    await eventually("the agent's end", () => agents().length === 0, patient);
    // An agent that outlived its daemon, as on a machine without setpriv.
    const file = join(directory, "serf1", "serf.json");
    const stale = spawn("serf", ["agent", "-config-file", file], { stdio: "ignore" });
    const gone = once(stale, "exit");
    await eventually("the stale agent's port", () => shell("ss -Hlnt 'sport = :7946'").includes("7946"), patient);
    const started = readFileSync(`/proc/${stale.pid}/stat`, "utf8").split(") ")[1]?.split(" ")[19];
    writeFileSync(join(directory, "serf1", "agent.pid"), JSON.stringify({ pid: stale.pid, started }));
    const one = await start(1);
    expect((await gone)[1]).toBe("SIGKILL");
    await sees(one, "alive");
    expect(one.self.serfPort).toBe(7946);
    expect(agents()).not.toContain(agent);
    expect(lines).toContain(`1 info ended the serf agent of an earlier daemon (process ${stale.pid}) {}`);
  }, 120_000);

  it("does its job with the store alone: without the program, and with serf off", async () => {
    const [one, two] = [await start(1, { serf: false }), await start(2, {}, { binary: "no-such-serf" })];
    const three = await start(3, {}, { binary: "/bin/false" });
    await eventually("all nodes", () => [one, two, three].every((node) => node.nodes().length === 3));
    await eventually("a complaint", () => lines.some((line) => line.includes("serf agent has ended (exit status 1)")));
    expect(one.nodes().map(({ state, serf }) => [state, serf])).toEqual([
      ["alive", undefined],
      ["alive", undefined],
      ["alive", undefined],
    ]);
    expect(lines.filter((line) => line.startsWith("2 warning serf is not installed"))).toHaveLength(1);
    await expect(one.userEvent("e", text("x"))).rejects.toMatchObject({ code: "serf-unavailable" });
    await expect(two.userEvent("e", text("x"))).rejects.toMatchObject({ code: "serf-unavailable" });
  }, 120_000);

  it("works over IPv6, and where the advertised address is no interface's", async () => {
    const one = await start(1, { advertise: { address: parseIp("fd77::1"), local: true } });
    const two = await start(2, { advertise: { address: parseIp("fd77::2"), local: false } });
    await together(one, two);
    expect(one.members().map(({ address, port }) => [address, port])).toEqual([
      ["fd77::1", 7946],
      // Bound to every address of the host, where the first one already is.
      ["fd77::2", 7947],
    ]);
  }, 120_000);

  it("takes a node back that has moved to another address", async () => {
    const [one, two] = [await start(1), await start(2)];
    await together(one, two);
    await two.close();
    await sees(one, "alive", "left");
    const moved = await start(2, { advertise: { address: parseIp("10.77.0.3"), local: true } });
    await together(one, moved);
    expect(one.nodes()[1]).toMatchObject({ id: "00000002", address: "10.77.0.3", state: "alive" });
  }, 180_000);
});
