import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { NodeResource } from "../../src/api/resources.ts";
import { enterOwnHost, eventually, expectNothingLeft, run } from "../own-host.ts";
import { EtcdServer } from "../store/etcd-server.ts";
import { DaemonProcess, ok } from "./dnet.ts";

const patient = 60_000;
let etcd: EtcdServer;
let directory: string;

beforeAll(async () => {
  enterOwnHost();
  directory = mkdtempSync(join(tmpdir(), "dnet-nodes-"));
  etcd = await new EtcdServer().start();
});
afterAll(async () => {
  await etcd.stop();
  rmSync(directory, { recursive: true });
  expectNothingLeft();
});

/** Starts a daemon with directories of its own and nothing else that differs from the other's. */
const start = (n: number) => {
  const config = join(directory, `${n}.toml`);
  writeFileSync(
    config,
    `[daemon]
     debug = true
     dataDir = "${directory}/data${n}"
     execRoot = "${directory}/run${n}"
     defaultNetwork = ""
     firewall = "none"
     [cluster]
     discovery = "etcd://${etcd.address}/test"
     Address = "127.0.0.1"
     Heartbeat = 1
     encrypt = "${Buffer.alloc(32, 9).toString("base64")}"
     [scopes.global.client]
     provider = "etcd"
     address = "${etcd.address}/test"
    `,
  );
  return DaemonProcess.start("-H", host(n), "-c", config);
};
const host = (n: number) => `tcp://127.0.0.1:4100${n}`;
const nodes = (n: number) => JSON.parse(ok("-H", host(n), "node", "ls", "--format", "json")) as NodeResource[];
/** In the gossip, and its port in the store: one does not wait for the other. */
const isUp = ({ serf_status, serf_port }: NodeResource): boolean => serf_status === "alive" && serf_port !== undefined;
const serfHere = (): readonly string[] => {
  const here = run("readlink", "/proc/self/ns/net");
  return run("sh", "-c", "pgrep -x serf || true")
    .split("\n")
    .filter((pid) => pid !== "" && run("sh", "-c", `readlink /proc/${pid}/ns/net || true`) === here);
};

it("two daemons on one host are two nodes of one cluster, and each sees what becomes of the other", async () => {
  const [one, two] = [await start(0), await start(1)];
  const others = () => nodes(0).filter(({ self }) => !self);
  await eventually(
    "both, by the store and by serf",
    () => {
      const both = [nodes(0), nodes(1)];
      return both.every((all) => all.length === 2 && all.every(isUp));
    },
    patient,
  );
  const ports = nodes(0).map(({ serf_port }) => serf_port);
  expect([...ports].sort()).toEqual([7946, 7947]);
  expect(one.log + two.log).toContain("port 7946 is taken on 127.0.0.1: serf listens on port 7947");
  expect(one.log).toMatch(/level=debug msg="Watch triggered with 2 nodes" discovery=etcd/);
  const [other] = others();
  expect(ok("-H", host(0), "node", "ls")).toMatch(new RegExp(`^${other?.id} {12}`, "m"));
  expect(ok("-H", host(1), "node", "info", other?.id.slice(0, 6) ?? "")).toContain(`Node Id: ${other?.id} (this node)`);

  await two.stop("SIGKILL");
  await eventually("no agent without its daemon", () => serfHere().length === 1, patient);
  await eventually("gone", () => others()[0]?.state === "gone", patient);
  const again = await start(1);
  await eventually(
    "alive again",
    () => others()[0]?.state === "alive" && others()[0]?.serf_status === "alive",
    patient,
  );
  expect(others()).toHaveLength(1);
  expect(await again.stop()).toBe(0);
  expect(others()[0]?.state).toBe("left");
  expect(await one.stop()).toBe(0);
  expect(serfHere()).toEqual([]);
  for (const secret of [readFileSync(join(directory, "0.toml"), "utf8").match(/encrypt = "(.*)"/)?.[1] ?? ""]) {
    expect(secret).not.toBe("");
    expect(one.log + two.log + again.log).not.toContain(secret);
  }
}, 240_000);
