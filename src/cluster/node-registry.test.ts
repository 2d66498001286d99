import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseIp } from "../net/ip.ts";
import { MemoryStore } from "../store/memory/memory-store.ts";
import { VirtualClock } from "../store/memory/virtual-clock.ts";
import type { Json, Lease } from "../store/store.ts";
import { NodeRegistry } from "./node-registry.ts";

const heartbeat = 10_000;
let clock: VirtualClock;
let now: number;
let store: MemoryStore;
let said: string[];
const opened: NodeRegistry[] = [];

beforeEach(() => {
  clock = new VirtualClock();
  now = Date.parse("2026-01-01T00:00:00.000Z");
  store = new MemoryStore({ clock });
  said = [];
});
afterEach(async () => {
  store.fault = () => undefined;
  await Promise.all(opened.splice(0).map((registry) => registry.close()));
  await store.close();
});

const record = (id: string) => ({
  version: 1 as const,
  id,
  name: `host-${id}`,
  address: parseIp("10.0.0.1"),
  dnetVersion: "0.1.0",
  started: "2026-01-01T00:00:00.000Z",
  bootId: "b",
});

const open = (id: string): NodeRegistry => {
  const registry = new NodeRegistry({
    store,
    self: record(id),
    heartbeat,
    clock,
    now: () => now,
    random: () => 1,
    log: (level, text) => said.push(`${level} ${text}`),
  });
  opened.push(registry);
  return registry;
};

/** Lets everything run that waits for nothing but its turn. */
const turns = async () => {
  for (let n = 0; n < 20; n++) await new Promise((resolve) => setImmediate(resolve));
};
/** Lets time pass in steps that are shorter than any wait. */
const pass = async (milliseconds: number) => {
  for (let done = 0; done < milliseconds; done += 250) {
    now += 250;
    clock.advance(250);
    await turns();
  }
};
const states = (registry: NodeRegistry) => registry.nodes().map(({ id, state }) => `${id} ${state}`);
const keys = async () => (await store.list("")).map(({ key }) => key);

describe("a node", () => {
  it("is registered under a lease that its heartbeat renews, and sees the others", async () => {
    const one = open("00000001");
    const two = open("00000002");
    await turns();
    expect(await one.ready(0)).toBe(true);
    expect(await keys()).toEqual(["alive/00000001", "alive/00000002", "nodes/00000001", "nodes/00000002"]);
    expect(states(one)).toEqual(["00000001 alive", "00000002 alive"]);
    await pass(100_000);
    expect(states(two)).toEqual(["00000001 alive", "00000002 alive"]);
    expect(two.nodes()[0]?.heartbeat).toBe("2026-01-01T00:01:40.000Z");
    expect((await store.get("nodes/00000001"))?.version).toBe(1);
  });

  it("14: that crashes is gone when its lease ends, and alive again when it is back", async () => {
    const one = open("00000001");
    await store.transact({ puts: [{ key: "nodes/00000002", value: record("00000002") }] });
    const lease = await store.lease(30_000);
    const alive = { key: "alive/00000002", value: { heartbeat: "2026-01-01T00:00:00.000Z" } };
    await store.transact({ puts: [{ ...alive, lease: lease.id }] });
    await turns();
    expect(states(one)[1]).toBe("00000002 alive");
    await pass(31_000);
    expect(one.nodes()[1]).toMatchObject({
      state: "gone",
      since: "2026-01-01T00:00:30.000Z",
      heartbeat: "2026-01-01T00:00:00.000Z",
    });
    await store.transact({ puts: [alive] });
    await turns();
    expect(states(one)[1]).toBe("00000002 alive");
  });

  it("whose clock is wrong is known by its heartbeats as they come in, and not by one that is late", async () => {
    const one = open("00000001");
    const at = (seconds: number) => ({ heartbeat: new Date(now + seconds * 1_000).toISOString() });
    const beat = async (value: Json) => {
      await store.transact({ puts: [{ key: "alive/00000002", value }] });
      await turns();
      return one.nodes()[1]?.skew;
    };
    await store.transact({ puts: [{ key: "nodes/00000002", value: record("00000002") }] });
    await turns();
    expect(await beat(at(0))).toBe(0);
    expect(await beat(at(-60))).toBe(0);
    expect(await beat(at(-60))).toBe(0);
    expect(await beat(at(-60))).toBe(-60_000);
    expect(await beat(at(90))).toBe(90_000);
    // Another look at the same heartbeats tells nothing new.
    const two = open("00000003");
    await turns();
    expect(two.nodes().find(({ id }) => id === "00000002")?.skew).toBeUndefined();
  });

  it("that is stopped has left, at once", async () => {
    const one = open("00000001");
    const two = open("00000002");
    await turns();
    now += 5_000;
    await two.close();
    await turns();
    expect(one.nodes()[1]).toMatchObject({ state: "left", since: "2026-01-01T00:00:05.000Z" });
    expect(await keys()).toEqual(["alive/00000001", "nodes/00000001", "nodes/00000002"]);
    open("00000002");
    await turns();
    expect(states(one)[1]).toBe("00000002 alive");
  });

  it("registers again by itself after its lease is lost, and after the store forgot it", async () => {
    const grant = store.lease.bind(store);
    const leases: Lease[] = [];
    store.lease = async (ttl) => {
      const lease = await grant(ttl);
      leases.push(lease);
      return lease;
    };
    const one = open("00000001");
    await turns();
    store.fault = () => {
      throw new Error("away");
    };
    // To the node an ended lease looks the same, whoever ended it.
    await leases[0]?.revoke();
    await pass(1_000);
    store.fault = () => undefined;
    expect(await keys()).toEqual(["nodes/00000001"]);
    expect(states(one)).toEqual(["00000001 gone"]);
    await pass(15_000);
    expect(states(one)).toEqual(["00000001 alive"]);
    expect(leases).toHaveLength(2);
    await store.transact({ deletes: ["nodes/00000001", "alive/00000001"] });
    await turns();
    expect(await keys()).toEqual(["alive/00000001", "nodes/00000001"]);
    expect(said.filter((line) => line.startsWith("warning"))).toHaveLength(1);
  });

  it("starts without the store, and says once that it is not there", async () => {
    store.fault = (point) => {
      throw new Error(`away ${point}`);
    };
    const one = open("00000001");
    const ready = one.ready(2_000);
    await pass(20_000);
    expect(await ready).toBe(false);
    expect(said).toEqual(["warning this node is not registered in the store: away before-lease; trying again"]);
    store.fault = () => undefined;
    await pass(10_000);
    expect(states(one)).toEqual(["00000001 alive"]);
    expect(said.at(-1)).toBe("info registered as node 00000001");
  });

  it("writes its record again after a lost answer", async () => {
    let lost = 1;
    store.fault = (point) => {
      if (point === "after-transact" && lost-- > 0) throw new Error("lost");
    };
    const one = open("00000001");
    await pass(1_000);
    expect(one.registered).toBe(true);
    one.update({ serfPort: 7947 });
    await turns();
    expect(one.nodes()[0]?.serfPort).toBe(7947);
  });

  it("tells listeners of changes, and one that throws disturbs nobody", async () => {
    const one = open("00000001");
    let told = 0;
    one.onChange(() => {
      throw new Error("mine");
    });
    const end = one.onChange(() => told++);
    await turns();
    expect(told).toBeGreaterThan(0);
    expect(said).toContain("error a listener to the nodes failed: mine");
    end();
    const before = told;
    await pass(heartbeat);
    expect(told).toBe(before);
    expect(states(one)).toEqual(["00000001 alive"]);
  });
});

describe("records of others", () => {
  it.each<[string, Json]>([
    ["no object", "x"],
    ["of a later version", { ...record("00000009"), version: 2 }],
    ["with another id", record("00000008")],
    ["with control characters", { ...record("00000009"), name: "a\u001b[2J" }],
    ["with no address", { ...record("00000009"), address: "10.0.0.1; reboot" }],
    ["with a port out of range", { ...record("00000009"), serfPort: 65_536 }],
    ["with a name without end", { ...record("00000009"), name: "x".repeat(300) }],
  ])("%s are left alone and told", async (_, value) => {
    const one = open("00000001");
    await store.transact({
      puts: [
        { key: "nodes/00000009", value },
        { key: "alive/00000009", value: { x: 1 } },
      ],
    });
    await turns();
    expect(states(one)).toEqual(["00000001 alive"]);
    expect(said.filter((line) => line.includes("nodes/00000009 is ignored"))).toHaveLength(1);
  });

  it("with fields of a later version are read", async () => {
    const one = open("00000001");
    await store.transact({ puts: [{ key: "nodes/00000009", value: { ...record("00000009"), colour: "red" } }] });
    await turns();
    expect(states(one)).toEqual(["00000001 alive", "00000009 gone"]);
  });
});
