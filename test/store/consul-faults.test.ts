import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { NetworkError } from "../../src/errors.ts";
import { ConsulStore, type ConsulStoreOptions } from "../../src/store/consul/consul-store.ts";
import type { Store } from "../../src/store/store.ts";
import { enterOwnHost, eventually, expectNothingLeft } from "../own-host.ts";
import { ConsulServer } from "./consul-server.ts";
import { Relay } from "./relay.ts";
import { listed, Replica } from "./replica.ts";

enterOwnHost();

const server = new ConsulServer();
const opened: Store[] = [];
/** Others may have the machine: where a test is not about time, a request has more than the usual. */
const patient = { timeout: 15_000 };
const usual = {};
const open = async (address: string, options: Partial<ConsulStoreOptions> = patient): Promise<ConsulStore> => {
  const store = await ConsulStore.open({ address, ...options });
  opened.push(store);
  return store;
};
const relays: Relay[] = [];
const relay = async (): Promise<Relay> => {
  const opened = await new Relay(8600 + ++count, 8500).open();
  relays.push(opened);
  return opened;
};
let count = 0;
/** An address with a prefix that nobody used. */
const fresh = (): string => `faults/${++count}`;

beforeAll(() => server.start());
afterEach(async () => {
  server.thaw();
  await Promise.all(opened.splice(0).map((store) => store.close()));
  await Promise.all(relays.splice(0).map((one) => one.close()));
});
afterAll(async () => {
  await server.remove();
  expectNothingLeft();
});

const put = async (store: Store, key: string, value: string | number): Promise<number> => {
  const result = await store.transact({ puts: [{ key, value }] });
  if (!result.ok) throw new Error("refused");
  return result.version;
};
/** Writes again until the store does: it may be on its way back. */
const putAtLast = (store: Store, key: string, value: string | number) =>
  eventually(
    `${key} is written`,
    () =>
      put(store, key, value).then(
        () => true,
        () => false,
      ),
    30_000,
  );
const isRefusal = { name: "NetworkError", code: "store-unavailable", kind: "no-service", hint: expect.any(String) };

describe("a server that goes", () => {
  it.each(["SIGTERM", "SIGKILL"] as const)(
    "by %s and comes back: told, and caught up without a list",
    async (signal) => {
      const prefix = fresh();
      const store = await open(`${server.address}/${prefix}`);
      const watcher = await open(`${server.address}/${prefix}`);
      await put(store, "a", 1);
      const replica = new Replica(watcher);
      await replica.until("a snapshot", ({ state }) => state.size === 1);
      await server.stop(signal);
      await replica.until("lost", ({ lost }) => lost);
      for (const ask of [
        () => store.transact({ puts: [{ key: "b", value: 1 }] }),
        () => store.get("a"),
        () => store.version(),
        () => store.lease(10_000),
      ]) {
        await expect(ask()).rejects.toMatchObject({
          ...isRefusal,
          message: expect.stringMatching(
            /^the consul store at 127\.0\.0\.1:8500 does not answer: connect ECONNREFUSED/,
          ),
        });
      }
      await server.start();
      await putAtLast(store, "c", 1);
      await replica.caughtUp(store);
      expect(replica.state).toEqual(await listed(store));
      expect(replica.of("snapshot")).toHaveLength(1);
      expect(replica.of("lost")).toHaveLength(1);
      await replica.end();
    },
  );

  it("is no reason not to open: a watch says so, and begins when there is one", async () => {
    const address = `127.0.0.1:8599/${fresh()}`;
    const store = await open(address);
    const replica = new Replica(store);
    await replica.until("lost", ({ lost }) => lost);
    expect(replica.events).toEqual([{ kind: "lost", reason: expect.stringContaining("127.0.0.1:8599") }]);
    const link = await new Relay(8599, 8500).open();
    relays.push(link);
    await replica.until("a snapshot", ({ last }) => last?.kind === "snapshot");
    await put(store, "a", 1);
    await replica.caughtUp(store);
    expect(replica.state).toEqual(new Map([["a", 1]]));
    await replica.end();
  });

  it("and hangs: what was sent is in doubt, what waits behind it is refused, in the time of one request", async () => {
    const prefix = fresh();
    const store = await open(`${server.address}/${prefix}`, usual);
    await put(store, "a", 0);
    const replica = new Replica(await open(`${server.address}/${prefix}`));
    await replica.until("a snapshot", ({ state }) => state.size === 1);
    await server.freeze();
    const replies = await Promise.allSettled(
      Array.from({ length: 20 }, (_, n) => store.transact({ puts: [{ key: `k/${n}`, value: n }] })),
    );
    const errors = replies.map((reply) => (reply.status === "rejected" ? (reply.reason as Error) : undefined));
    expect(errors[0]).toBeInstanceOf(Error);
    expect(errors[0]).not.toBeInstanceOf(NetworkError);
    for (const error of errors.slice(1)) {
      expect(error).toMatchObject({
        ...isRefusal,
        message: expect.stringMatching(/no answer within (1500|1[0-4]\d\d|\d{1,3}) ms/),
      });
    }
    await expect(store.version()).rejects.toMatchObject(isRefusal);
    server.thaw();
    await putAtLast(store, "b", 1);
    await replica.caughtUp(store);
    const state = await listed(store);
    expect(replica.state).toEqual(state);
    expect([...state.keys()].filter((key) => key.startsWith("k/") && key !== "k/0")).toEqual([]);
    await replica.end();
  });

  it("and hangs behind another's watch is noticed as soon as anybody gets no answer", async () => {
    const store = await open(`${server.address}/${fresh()}`, usual);
    const replica = new Replica(store);
    await replica.until("a snapshot", ({ last }) => last?.kind === "snapshot");
    await server.freeze();
    await expect(store.version()).rejects.toMatchObject(isRefusal);
    await replica.until("lost", ({ lost }) => lost);
    server.thaw();
    await replica.until("back", ({ lost }) => !lost);
    expect(replica.last).toEqual({ kind: "change", version: 0, puts: [], deletes: [] });
    await replica.end();
  });

  it("22: for good, with an empty one in its place: listed again, and written on", async () => {
    const prefix = fresh();
    const store = await open(`${server.address}/${prefix}`);
    const replica = new Replica(await open(`${server.address}/${prefix}`));
    for (let n = 0; n < 30; n++) await put(store, `old/${n}`, n);
    await replica.caughtUp(store);
    await server.stop("SIGKILL");
    server.forget();
    await server.start();
    await replica.until("a new snapshot", ({ last }) => last?.kind === "snapshot");
    expect(replica.state.size).toBe(0);
    for (let n = 0; n < 40; n++) await put(store, `new/${n % 7}`, n);
    await replica.caughtUp(store);
    expect(replica.state).toEqual(await listed(store));
    expect(replica.state.size).toBe(7);
    await replica.end();
  });

  it("for good, while nobody can see it, with one in its place that has come as far", async () => {
    const prefix = fresh();
    const writer = await open(`${server.address}/${prefix}`);
    const link = await relay();
    const replica = new Replica(await open(`${link.address}/${prefix}`));
    for (let n = 0; n < 10; n++) await put(writer, `old/${n}`, n);
    await replica.caughtUp(writer);
    await link.close();
    await replica.until("lost", ({ lost }) => lost);
    await server.stop("SIGKILL");
    server.forget();
    await server.start();
    for (let n = 0; n < 12; n++) await put(writer, `new/${n}`, n);
    await link.open();
    await replica.until("the new one's entries", ({ state }) => state.has("new/11"));
    expect(replica.state).toEqual(await listed(writer));
    await replica.end();
  });
});

describe("a watch that was cut off", () => {
  it.each([
    [500, 1],
    [600, 2],
  ])(
    "during %i transactions comes to the same state (snapshots: %i)",
    async (missed, snapshots) => {
      const prefix = fresh();
      const writer = await open(`${server.address}/${prefix}`);
      const link = await relay();
      const replica = new Replica(await open(`${link.address}/${prefix}`));
      await replica.until("a snapshot", ({ last }) => last?.kind === "snapshot");
      await put(writer, "r/first", 1);
      await replica.caughtUp(writer);
      await link.close();
      await replica.until("lost", ({ lost }) => lost);
      for (let n = 0; n < missed; n++) {
        if (n % 5 === 4) await writer.transact({ deletes: [`r/${n % 13}`] });
        else await put(writer, `r/${n % 13}`, n);
      }
      await link.open();
      await replica.caughtUp(writer);
      expect(replica.state).toEqual(await listed(writer));
      expect(replica.of("snapshot")).toHaveLength(snapshots);
      if (snapshots === 1)
        expect(replica.of("change").filter(({ puts, deletes }) => puts.length + deletes.length > 0)).toHaveLength(
          missed + 1,
        );
      await replica.end();
      await link.close();
    },
    120_000,
  );

  it("goes on where a transaction was too long for the log", async () => {
    const store = await open(`${server.address}/${fresh()}`);
    const replica = new Replica(store, "r/");
    await replica.until("a snapshot", ({ last }) => last?.kind === "snapshot");
    await put(store, "r/big", "x".repeat(300_000));
    await put(store, "r/small", 1);
    await replica.caughtUp(store);
    expect(replica.state).toEqual(await listed(store, "r/"));
    expect(replica.state.size).toBe(2);
    await replica.end();
  });
});

describe("transactions", () => {
  it("of five stores that race lose no update, and everybody sees each once, in order", async () => {
    const prefix = fresh();
    const stores = await Promise.all(Array.from({ length: 5 }, () => open(`${server.address}/${prefix}`)));
    const replica = new Replica(stores[0] as Store, "n");
    await replica.until("a snapshot", ({ last }) => last?.kind === "snapshot");
    const increment = async (store: Store) => {
      for (;;) {
        const found = await store.get("n");
        const result = await store.transact({
          checks: [{ key: "n", version: found?.version ?? 0 }],
          puts: [{ key: "n", value: Number(found?.value ?? 0) + 1 }],
        });
        if (result.ok) return;
        expect(result.conflicts).toEqual(["n"]);
      }
    };
    await Promise.all(
      stores.map(async (store) => {
        for (let n = 0; n < 60; n++) await increment(store);
      }),
    );
    expect((await stores[0]?.get("n"))?.value).toBe(300);
    await replica.caughtUp(stores[0] as Store);
    expect(replica.of("change").flatMap(({ puts }) => puts.map(({ value }) => value))).toEqual(
      Array.from({ length: 300 }, (_, n) => n + 1),
    );
    await replica.end();
  }, 120_000);

  it("of five stores side by side, sixty at once each, without a caller's conflict", async () => {
    const prefix = fresh();
    const stores = await Promise.all(Array.from({ length: 5 }, () => open(`${server.address}/${prefix}`)));
    const results = await Promise.all(
      stores.flatMap((store, s) =>
        Array.from({ length: 60 }, (_, n) =>
          store.transact({ checks: [{ key: `k/${s}/${n}`, version: 0 }], puts: [{ key: `k/${s}/${n}`, value: n }] }),
        ),
      ),
    );
    expect(results.filter(({ ok }) => !ok)).toEqual([]);
    expect(new Set(results.map((result) => result.ok && result.version)).size).toBe(300);
    expect((await listed(stores[0] as Store)).size).toBe(300);
  }, 120_000);

  it("whose answer got lost are no refusals, and are found written", async () => {
    const prefix = fresh();
    const direct = await open(`${server.address}/${prefix}`);
    const link = await relay();
    const store = await open(`${link.address}/${prefix}`, usual);
    await put(store, "a", 1);
    link.swallowing = true;
    const lost = await put(store, "a", 2).catch((error: unknown) => error);
    expect(lost).toBeInstanceOf(Error);
    expect(lost).not.toBeInstanceOf(NetworkError);
    await eventually("written", async () => (await direct.get("a"))?.value === 2, 30_000);
    link.swallowing = false;
    await put(store, "a", 3);
    expect(await direct.get("a")).toMatchObject({ value: 3 });
  });

  it("that delete are checked as well, where the key is gone too", async () => {
    const store = await open(`${server.address}/${fresh()}`);
    const version = await put(store, "a", 1);
    const first = await store.transact({ checks: [{ key: "a", version }], deletes: ["a"] });
    const second = await store.transact({ checks: [{ key: "a", version }], deletes: ["a"] });
    expect([first.ok, second]).toEqual([true, { ok: false, conflicts: ["a"] }]);
  });

  it("that do not fit are refused before they are sent", async () => {
    const store = await open(`${server.address}/${fresh()}`);
    const keys = Array.from({ length: 63 }, (_, n) => `k/${n}`);
    for (const bad of [
      { checks: keys.map((key) => ({ key, version: 0 })), puts: keys.map((key) => ({ key, value: 1 })) },
      { puts: [{ key: "a", value: "x".repeat(400_000) }] },
      { puts: [{ key: ".revision", value: 1 }] },
      { deletes: [".leases/x"] },
    ]) {
      await expect(store.transact(bad)).rejects.toMatchObject({ code: "invalid-transaction" });
    }
    const fits = keys.slice(1);
    expect(
      await store.transact({
        checks: fits.map((key) => ({ key, version: 0 })),
        puts: fits.map((key) => ({ key, value: 1 })),
      }),
    ).toMatchObject({ ok: true });
    expect((await listed(store)).size).toBe(62);
  });

  it("end with their caller's signal, in the queue as well", async () => {
    const store = await open(`${server.address}/${fresh()}`);
    await server.freeze();
    const abort = new AbortController();
    const both = [1, 2].map((value) => store.transact({ puts: [{ key: "a", value }] }, abort.signal));
    const reason = new Error("enough");
    abort.abort(reason);
    const ends = await Promise.allSettled(both);
    expect(ends.map((end) => end.status === "rejected" && end.reason)).toEqual([reason, reason]);
    server.thaw();
    await putAtLast(store, "a", 3);
  });
});

describe("leases", () => {
  it("that run out are told to who watches, elsewhere too; what was put again stays", async () => {
    const prefix = fresh();
    const store = await open(`${server.address}/${prefix}`);
    const replica = new Replica(await open(`${server.address}/${prefix}`), "n/");
    const dying = await store.lease(10_000);
    const living = await store.lease(60_000);
    await store.transact({
      puts: ["gone", "kept", "plain", "outside"].map((key) => ({
        key: key === "outside" ? "o" : `n/${key}`,
        value: 1,
        lease: dying.id,
      })),
    });
    await store.transact({ puts: [{ key: "n/kept", value: 2, lease: living.id }] });
    await put(store, "n/plain", 2);
    await replica.caughtUp(store);
    expect([...replica.state.keys()].sort()).toEqual(["n/gone", "n/kept", "n/plain"]);
    await replica.until("the lease ends", ({ state }) => !state.has("n/gone"));
    expect(replica.last).toMatchObject({ kind: "change", puts: [], deletes: ["n/gone"] });
    expect(await listed(store)).toEqual(
      new Map([
        ["n/kept", 2],
        ["n/plain", 2],
      ]),
    );
    await replica.caughtUp(store);
    expect(replica.of("snapshot")).toHaveLength(1);
    await expect(dying.renew()).rejects.toMatchObject({ code: "lease-lost" });
    for (const lease of [dying.id, "no-such-lease"]) {
      await expect(store.transact({ puts: [{ key: "n/x", value: 1, lease }] })).rejects.toMatchObject({
        code: "lease-lost",
      });
    }
    await living.revoke();
    await replica.until("the other one ends", ({ state }) => !state.has("n/kept"));
    expect(replica.state).toEqual(await listed(store, "n/"));
    await replica.end();
  });

  it("that end while the watch is cut off", async () => {
    const prefix = fresh();
    const store = await open(`${server.address}/${prefix}`);
    const link = await relay();
    const replica = new Replica(await open(`${link.address}/${prefix}`));
    const lease = await store.lease(10_000);
    await store.transact({ puts: [{ key: "a", value: 1, lease: lease.id }] });
    await replica.caughtUp(store);
    await link.close();
    await replica.until("lost", ({ lost }) => lost);
    const other = await store.lease(10_000);
    await store.transact({ puts: [{ key: "b", value: 1, lease: other.id }] });
    await lease.revoke();
    await other.revoke();
    await link.open();
    await replica.until("both gone", ({ state, lost }) => state.size === 0 && !lost);
    expect(replica.of("snapshot")).toHaveLength(1);
    await replica.end();
  });

  it("come and go under a watch that follows", async () => {
    const prefix = fresh();
    const stores = await Promise.all([1, 2, 3].map(() => open(`${server.address}/${prefix}`)));
    const replica = new Replica(await open(`${server.address}/${prefix}`));
    await Promise.all(
      stores.map(async (store, s) => {
        for (let n = 0; n < 15; n++) {
          const lease = await store.lease(10_000);
          await store.transact({ puts: [{ key: `node/${s}`, value: n, lease: lease.id }] });
          if (n < 14) await lease.revoke();
        }
      }),
    );
    await replica.until("the last of each", ({ state }) => [0, 1, 2].every((s) => state.get(`node/${s}`) === 14));
    expect(replica.state).toEqual(await listed(stores[0] as Store));
    await replica.end();
  });
});
