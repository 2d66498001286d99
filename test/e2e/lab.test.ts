import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { Lab } from "../../src/lab/lab.ts";
import type { LabState } from "../../src/lab/lab-state.ts";
import { enterOwnHost, eventually, expectNothingLeft, shell } from "../own-host.ts";
import { dnet, ok } from "./dnet.ts";
import { Belongings, states } from "./lab-belongings.ts";

const outside = "203.0.113.2";
// A lab of three hosts and a store takes seconds; on a machine that others use, many.
vi.setConfig({ testTimeout: 180_000 });

beforeAll(() => enterOwnHost());
afterEach(async () => {
  // A test that failed: what it left must not fail the next one.
  for (const lab of await Lab.list()) await lab.down();
});
afterAll(() => expectNothingLeft());

const only = (): LabState => {
  const [state, ...others] = states();
  if (!state || others.length > 0) throw new Error("there is not exactly one lab");
  return state;
};
/** `dnet lab ARGS`, which must succeed and say nothing. */
const lab = (...args: readonly string[]): void => expect(ok("lab", ...args)).toBe("");
const onHost = (host: string, ...command: readonly string[]): string => ok("lab", "exec", host, "--", ...command);
/** True at the first answer. @param seconds until which there must be one */
const reaches = (host: string, target: string, seconds = 10): boolean =>
  dnet("lab", "exec", host, "--", "ping", "-c1", `-w${seconds}`, target).status === 0;

const network = (): string => shell("ip -br link; ip -br address; ip route; ip rule; nft list ruleset");

describe.each([
  {
    store: "etcd",
    read: ["etcdctl", "get", "--print-value-only", "greeting"],
    write: ["etcdctl", "put", "greeting", "hello"],
  },
  { store: "consul", read: ["consul", "kv", "get", "greeting"], write: ["consul", "kv", "put", "greeting", "hello"] },
])("a lab with $store", ({ store, read, write }) => {
  it("comes up, is parted and healed, loses and gets back daemons, machines and the store, and leaves nothing behind", async () => {
    const before = network();
    const { status, stdout, stderr } = dnet("lab", "up", "--hosts", "3", "--store", store);
    expect({ status, stderr }).toEqual({
      status: 0,
      stderr: expect.stringContaining(`store ${store} on 172.17.0.2:`),
    });
    expect(stdout).toContain("dnet -H tcp://127.0.0.1:41002");
    const state = only();
    const belongings = new Belongings(state);
    expect(state.hosts.map(({ name, address, api, daemon }) => [name, address, api, daemon])).toEqual([
      ["dnet-1", "172.17.0.3", "tcp://127.0.0.1:41000", "running"],
      ["dnet-2", "172.17.0.4", "tcp://127.0.0.1:41001", "running"],
      ["dnet-3", "172.17.0.5", "tcp://127.0.0.1:41002", "running"],
    ]);
    // The network that the caller lives in has not noticed.
    expect(network()).toBe(before);

    // Each host is a machine of its own, and the caller reaches each one's daemon.
    for (const { name, api } of state.hosts) {
      expect(onHost(name, "hostname")).toBe(name);
      ok("-H", api, "network", "create", `on-${name}`);
      expect(onHost(name, "dnet", "network", "ls")).toContain(`on-${name}`);
      expect(onHost(name, "sh", "-c", "ls /sys/class/net").split("\n")).toContain("docker0");
      expect(reaches(name, outside)).toBe(true);
      expect(reaches(name, "store")).toBe(true);
    }
    expect(ok("-H", "tcp://127.0.0.1:41001", "network", "ls")).not.toContain("on-dnet-1");
    expect(reaches("dnet-1", "dnet-3")).toBe(true);
    expect(reaches("outside", "172.17.0.3", 1)).toBe(false);
    expect(dnet("lab", "exec", "dnet-1", "--", "sh", "-c", "exit 7").status).toBe(7);

    // A process that outlives the one that started it ends without harm, and is reaped.
    onHost("dnet-1", "sh", "-c", "(sleep 0.1; touch /run/orphan) >/dev/null 2>&1 &");
    const ended = () => dnet("lab", "exec", "dnet-1", "--", "test", "-e", "/run/orphan").status === 0;
    await eventually("the orphan has ended", ended);
    await eventually("it is reaped", () => !/^Z/m.test(onHost("dnet-1", "ps", "-eo", "stat=")));

    // Partitions go both ways, add up, and end.
    lab("partition", "dnet-1", "dnet-2");
    lab("partition", "store", "dnet-1,dnet-3");
    expect([reaches("dnet-1", "dnet-2", 1), reaches("dnet-2", "dnet-1", 1)]).toEqual([false, false]);
    expect([reaches("dnet-1", "store", 1), reaches("dnet-3", "store", 1)]).toEqual([false, false]);
    expect(reaches("dnet-2", "store")).toBe(true);
    expect(reaches("dnet-1", "dnet-3")).toBe(true);
    expect(ok("lab", "ls")).toContain("no traffic between dnet-1 and dnet-2");
    lab("heal");
    expect([reaches("dnet-1", "dnet-2"), reaches("dnet-1", "store")]).toEqual([true, true]);

    // The store is the real one; what it knows outlives its process.
    onHost("dnet-2", ...write);
    lab("store", "stop");
    expect(only().store?.server).toBe("stopped");
    expect(dnet("lab", "exec", "dnet-3", "--", "timeout", "2", ...read).status).not.toBe(0);
    lab("store", "start");
    expect(onHost("dnet-3", ...read)).toBe("hello");
    // A daemon that has not caught up yet says so on standard error.
    const caughtUp = () => state.hosts.every(({ api }) => dnet("-H", api, "network", "ls").stderr === "");
    await eventually("every daemon has caught up with the store", caughtUp, 60_000);

    // A daemon that was killed leaves its sandboxes and finds them again.
    const two = ["-H", "tcp://127.0.0.1:41001"];
    ok(...two, "container", "create", "c1");
    const { key } = JSON.parse(ok(...two, "container", "info", "c1", "--format", "json")) as { key: string };
    lab("kill", "dnet-2");
    expect(only().hosts.map(({ daemon }) => daemon)).toEqual(["running", "stopped", "running"]);
    expect(dnet(...two, "container", "ls").status).toBe(1);
    onHost("dnet-2", "nsenter", `--net=${key}`, "ip", "link", "show", "lo");
    lab("start", "dnet-2");
    await eventually("dnet-2 has caught up", caughtUp, 60_000);
    expect(ok(...two, "container", "ls")).toContain("c1");

    // A reboot takes what is in memory, a new machine the disk as well.
    lab("reboot", "dnet-2");
    await eventually("dnet-2 has caught up after its reboot", caughtUp, 60_000);
    expect(ok(...two, "container", "ls")).not.toContain("c1");
    expect(ok(...two, "network", "ls")).toContain("on-dnet-2");
    expect(reaches("dnet-2", "dnet-1")).toBe(true);
    lab("kill", "dnet-2");
    lab("start", "--fresh", "dnet-2");
    await eventually("the new dnet-2 has caught up", caughtUp, 60_000);
    expect(ok(...two, "network", "ls")).not.toContain("on-dnet-2");
    expect(reaches("dnet-1", "dnet-2")).toBe(true);
    expect(ok("-H", "tcp://127.0.0.1:41000", "network", "ls")).toContain("on-dnet-1");
    expect(dnet("lab", "logs", "dnet-2").stdout).toContain("is ready");

    const later = new Belongings(only());
    lab("down");
    await later.expectGone();
    await belongings.expectGone();
  });
});
