import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { NetworkError } from "../../src/errors.ts";
import { EtcdStore } from "../../src/store/etcd/etcd-store.ts";
import { enterOwnHost, eventually, expectNothingLeft, run } from "../own-host.ts";
import { EtcdServer } from "./etcd-server.ts";
import { Relay } from "./relay.ts";
import { listed, Replica } from "./replica.ts";

enterOwnHost();
afterAll(expectNothingLeft);

let server: EtcdServer;
let relay: Relay;
/** One that comes through the relay, and one that no fault of the relay hits. */
let store: EtcdStore;
let other: EtcdStore;
let replicas: Replica[];

beforeEach(async () => {
  server = await new EtcdServer().start();
  relay = await new Relay(2999, 2379).open();
  store = await EtcdStore.open({ address: relay.address });
  other = await EtcdStore.open({ address: server.address, timeout: 10_000 });
  replicas = [];
});
afterEach(async () => {
  await store.close();
  await other.close();
  for (const replica of replicas) await replica.end();
  await relay.close();
  await server.remove();
});

const follow = async (of: EtcdStore, prefix = "") => {
  const replica = new Replica(of, prefix);
  replicas.push(replica);
  await replica.until("a snapshot", ({ events }) => events.some(({ kind }) => kind === "snapshot"));
  return replica;
};
const put = async (of: EtcdStore, key: string, value: string | number) => {
  const result = await of.transact({ puts: [{ key, value }] });
  if (!result.ok) throw new Error("refused");
  return result.version;
};
const compact = async () => {
  const version = await other.version();
  run("etcdctl", "compact", String(version));
};
/** What a call failed with, and how long it took (ms). */
const failure = async (call: Promise<unknown>): Promise<{ error: unknown; took: number }> => {
  const began = performance.now();
  const error = await call.then(
    () => undefined,
    (error: unknown) => error,
  );
  return { error, took: Math.round(performance.now() - began) };
};

describe("a server that goes away", () => {
  it.each(["SIGTERM", "SIGKILL"] as const)("by %s and comes back: said, then what was missed", async (signal) => {
    await put(other, "a", 1);
    const replica = await follow(other);
    await put(other, "b", 2);
    await replica.caughtUp(other);
    await server.stop(signal);
    await replica.until("lost", ({ lost }) => lost);
    expect(replica.last).toMatchObject({ reason: expect.stringContaining(server.address) });
    const refused = {
      code: "store-unavailable",
      kind: "no-service",
      message: `the etcd store at ${server.address} does not answer: connect ECONNREFUSED ${server.address}`,
    };
    await expect(put(other, "c", 3)).rejects.toMatchObject(refused);
    await expect(other.version()).rejects.toMatchObject(refused);
    // Somebody who comes now is told as well.
    const late = new Replica(other);
    replicas.push(late);
    await late.until("lost", ({ lost }) => lost);
    await server.start();
    await replica.until("back", ({ lost }) => !lost);
    await late.until("back", ({ lost }) => !lost);
    const version = await put(other, "d", 4);
    await replica.caughtUp(other);
    expect(replica.last).toEqual({ kind: "change", version, puts: [{ key: "d", value: 4, version }], deletes: [] });
    expect(replica.state).toEqual(await listed(other));
    await late.caughtUp(other);
    expect(late.state).toEqual(replica.state);
    expect(replica.of("snapshot")).toHaveLength(1);
  });

  it("from the watcher only: what others did meanwhile is told as changes, in order", async () => {
    const replica = await follow(store);
    await relay.close();
    await replica.until("lost", ({ lost }) => lost);
    const versions = [];
    for (let n = 0; n < 20; n++) versions.push(await put(other, `k/${n % 3}`, n));
    await other.transact({ deletes: ["k/1"] });
    await relay.open();
    await replica.caughtUp(other);
    expect(replica.of("change").flatMap(({ puts }) => puts.map(({ version }) => version))).toEqual(versions);
    expect(replica.state).toEqual(await listed(other));
    expect(replica.of("snapshot")).toHaveLength(1);
  });

  it("without a word: a stream that hangs is noticed, and what was missed is told", async () => {
    const replica = await follow(store);
    relay.silence();
    const version = await put(other, "k", 1);
    await replica.until("the change", ({ state }) => state.has("k"));
    expect(replica.last).toMatchObject({ version });
    expect(replica.of("snapshot")).toHaveLength(1);
  });
});

describe("a place that is gone", () => {
  it("22, flannel 2471: by compaction while the watcher was cut off: a new snapshot", async () => {
    for (let n = 0; n < 5; n++) await put(other, `k/${n}`, n);
    const replica = await follow(store, "k/");
    await relay.close();
    await replica.until("lost", ({ lost }) => lost);
    for (let n = 0; n < 50; n++) await put(other, `k/${n % 9}`, n);
    await other.transact({ deletes: ["k/3"] });
    await compact();
    await relay.open();
    await replica.until("a second snapshot", (one) => one.of("snapshot").length === 2);
    await replica.caughtUp(other);
    expect(replica.state).toEqual(await listed(other, "k/"));
    const version = await put(other, "k/new", 1);
    await replica.caughtUp(other);
    expect(replica.last).toMatchObject({ kind: "change", version });
  });

  it.each([
    ["is behind", 1],
    ["has overtaken", 60],
  ])("with a server that was replaced by an empty one, whose revision %s: a new snapshot", async (_what, writes) => {
    for (let n = 0; n < 20; n++) await put(other, `k/${n}`, n);
    const replica = await follow(store);
    await relay.close();
    await replica.until("lost", ({ lost }) => lost);
    await server.stop();
    server.wipe();
    await server.start();
    for (let n = 0; n < writes; n++) await put(other, "k/new", n);
    await relay.open();
    await replica.until("a second snapshot", (one) => one.of("snapshot").length === 2);
    await replica.caughtUp(other);
    expect(replica.state).toEqual(new Map([["k/new", writes - 1]]));
  });
});

it("a server that was set back to a backup and has overtaken: a new snapshot", async () => {
  await put(other, "k", "kept");
  const backup = server.path("backup");
  run("etcdctl", "snapshot", "save", backup);
  const replica = await follow(store);
  await put(other, "gone", 1);
  await replica.caughtUp(other);
  await relay.close();
  await replica.until("lost", ({ lost }) => lost);
  await server.stop();
  server.restore(backup);
  await server.start();
  for (let n = 0; n < 20; n++) await put(other, "new", n);
  await relay.open();
  await replica.until("a second snapshot", (one) => one.of("snapshot").length === 2);
  await replica.caughtUp(other);
  expect(replica.state).toEqual(
    new Map<string, string | number>([
      ["k", "kept"],
      ["new", 19],
    ]),
  );
});

describe("a server that hangs", () => {
  it("fails every call in time; nobody knows whether a transaction was done", async () => {
    await put(other, "a", 1);
    const replica = await follow(store);
    await server.pause();
    const write = await failure(put(store, "b", 2));
    expect(write.error).not.toBeInstanceOf(NetworkError);
    expect(write.error).toMatchObject({
      message: expect.stringMatching(/^the answer to a transaction got lost: .* no answer within 1[45]\d\d ms$/),
    });
    const read = await failure(store.get("a"));
    expect(read.error).toMatchObject({ code: "store-unavailable" });
    console.log(`etcd hangs: transact failed after ${write.took} ms, get after ${read.took} ms`);
    await replica.until("lost", ({ lost }) => lost);
    server.resume();
    await replica.until("back", ({ lost }) => !lost);
    const version = await put(other, "c", 3);
    await replica.caughtUp(other);
    expect(replica.last).toMatchObject({ version });
    expect(replica.state).toEqual(await listed(other));
  });

  it("whose answer gets lost may have written all the same", async () => {
    await put(other, "a", 1);
    relay.swallowing = true;
    const { error } = await failure(put(store, "a", 2));
    expect(error).toBeInstanceOf(Error);
    expect(error).not.toBeInstanceOf(NetworkError);
    await eventually("written", async () => (await other.get("a"))?.value === 2);
    // What only reads says that the store is not there.
    await expect(store.get("a")).rejects.toMatchObject({ code: "store-unavailable" });
  });

  it("is no reason to wait longer than the caller wants", async () => {
    await server.pause();
    const { error } = await failure(store.get("a", AbortSignal.timeout(50)));
    expect(error).toMatchObject({ name: "TimeoutError" });
  });
});

describe("many", () => {
  it("clients that race lose no update", async () => {
    const clients = await Promise.all(
      Array.from({ length: 5 }, () => EtcdStore.open({ address: server.address, timeout: 10_000 })),
    );
    await put(other, "n", 0);
    let conflicts = 0;
    const increment = async (client: EtcdStore) => {
      for (;;) {
        const { value, version } = (await client.get("n")) ?? { value: 0, version: 0 };
        const puts = [{ key: "n", value: Number(value) + 1 }];
        if ((await client.transact({ checks: [{ key: "n", version }], puts })).ok) return;
        conflicts++;
      }
    };
    await Promise.all(
      clients.map(async (client) => {
        for (let n = 0; n < 60; n++) await increment(client);
      }),
    );
    expect((await other.get("n"))?.value).toBe(300);
    expect(conflicts).toBeGreaterThan(0);
    for (const client of clients) await client.close();
  });

  it("keys do not make a transaction dearer", async () => {
    const fill = async (from: number, to: number) => {
      for (let n = from; n < to; n += 100) {
        const puts = Array.from({ length: 100 }, (_, i) => ({ key: `endpoints/${n + i}`, value: { n: n + i } }));
        await other.transact({ puts });
      }
    };
    const cost = async () => {
      const before = relay.sent + relay.received;
      for (let n = 0; n < 10; n++) {
        const entry = await store.get("endpoints/7");
        await store.transact({
          checks: [{ key: "endpoints/7", version: entry?.version ?? 0 }],
          puts: [{ key: "endpoints/7", value: { n } }],
        });
        await store.version();
      }
      return (relay.sent + relay.received - before) / 10;
    };
    await fill(0, 100);
    const few = await cost();
    await fill(100, 3_000);
    const many = await cost();
    console.log(`etcd: get + transact + version take ${few} bytes at 100 keys, ${many} at 3,000`);
    // Revisions have got some more digits.
    expect(many - few).toBeLessThan(few / 10);
    expect(await store.list("endpoints/")).toHaveLength(3_000);
  });
});

describe("what lies in etcd", () => {
  it("can be read with etcdctl, and by nobody's mistake makes the rest unreadable", async () => {
    await put(other, "networks/multihost", 1);
    await other.transact({ puts: [{ key: "networks/é", value: { name: "é", subnets: ["10.0.0.0/24"] } }] });
    const printed = run("etcdctl", "get", "--prefix", "dnet/networks/").split("\n");
    expect(printed).toEqual([
      "dnet/networks/multihost",
      "1",
      "dnet/networks/é",
      '{"name":"é","subnets":["10.0.0.0/24"]}',
      "",
    ]);
    const replica = await follow(other, "networks/");
    run("etcdctl", "put", "dnet/networks/odd", "{no json");
    await replica.until("the odd one", ({ state }) => state.has("networks/odd"));
    expect(await listed(other, "networks/o")).toEqual(new Map([["networks/odd", null]]));
    run("etcdctl", "put", "elsewhere", "x");
    const version = await put(other, "networks/last", 1);
    await replica.caughtUp(other);
    expect(replica.last).toMatchObject({ version });
    expect([...replica.state.keys()].sort()).toEqual((await other.list("")).map(({ key }) => key).sort());
  });

  it("of our own is not shown and not given away", async () => {
    await put(other, "a", 1);
    const replica = await follow(other);
    expect(run("etcdctl", "get", "--prefix", "dnet/", "--keys-only")).toContain("dnet/.revision");
    expect((await other.list("")).map(({ key }) => key)).toEqual(["a"]);
    expect(await other.get(".revision")).toBeUndefined();
    expect([...replica.state.keys()]).toEqual(["a"]);
    await expect(put(other, ".revision", 1)).rejects.toMatchObject({ code: "invalid-transaction" });
    // Whoever removes it does not make reads older than they should be.
    run("etcdctl", "del", "dnet/.revision");
    expect(await other.version()).toBeGreaterThan(0);
    await replica.caughtUp(other);
  });

  it("is one change, however large, and what etcd would not take is refused before", async () => {
    const replica = await follow(other);
    const puts = Array.from({ length: 127 }, (_, n) => ({ key: `k/${n}`, value: "x".repeat(10_000) }));
    const result = await other.transact({ puts, checks: puts.map(({ key }) => ({ key, version: 0 })) });
    await replica.caughtUp(other);
    expect(replica.of("change").map((change) => [change.version, change.puts.length])).toEqual([
      [result.ok ? result.version : 0, 127],
    ]);
    const again = await other.transact({ puts, checks: puts.map(({ key }) => ({ key, version: 0 })) });
    expect(again.ok ? [] : again.conflicts).toHaveLength(127);
    const invalid = { code: "invalid-transaction", kind: "bad-request" };
    await expect(other.transact({ puts: [...puts, { key: "one-more", value: 1 }] })).rejects.toMatchObject(invalid);
    await expect(
      other.transact({ puts: puts.map(({ key }) => ({ key, value: "x".repeat(20_000) })) }),
    ).rejects.toMatchObject(invalid);
  });
});

describe("leases", () => {
  it("that run out take all their entries in one change, once nobody renews them", async () => {
    const replica = await follow(other, "l/");
    const lease = await other.lease(4_500);
    const result = await other.transact({
      puts: ["a", "b"].map((key) => ({ key: `l/${key}`, value: 1, lease: lease.id })),
    });
    expect(result.ok).toBe(true);
    await lease.renew();
    await replica.until("both gone", ({ state, events }) => state.size === 0 && events.length > 2);
    expect(replica.of("change").map(({ deletes }) => [...deletes].sort())).toEqual([[], ["l/a", "l/b"]]);
    await expect(lease.renew()).rejects.toMatchObject({ code: "lease-lost", kind: "no-service" });
    await lease.revoke();
  });

  it("that are revoked count as a transaction: who reads after that does not see their entries", async () => {
    const replica = await follow(store, "l/");
    const lease = await other.lease(60_000);
    await other.transact({ puts: [{ key: "l/a", value: 1, lease: lease.id }] });
    await replica.caughtUp(store);
    expect(replica.state.has("l/a")).toBe(true);
    await lease.revoke();
    await replica.caughtUp(store);
    expect(replica.state.has("l/a")).toBe(false);
  });
});
