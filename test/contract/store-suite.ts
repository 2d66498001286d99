import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Store, StoreEntry, WatchEvent } from "../../src/store/store.ts";

/** What a suite needs of an implementation: how it is opened, opened again over the same data, and taken away. */
export interface StoreUnderTest {
  readonly store: Store;
  /** Closes and opens again; absent where nothing outlives the process. */
  readonly reopen?: () => Promise<Store>;
  readonly cleanup: () => Promise<void>;
  /** Lets a lease's time pass. */
  readonly elapse: (milliseconds: number) => Promise<void>;
  /** Milliseconds of the leases the suite takes, where time passes for real; by default a minute. */
  readonly ttl?: number;
  /** Milliseconds a lease may live on past its time, where a server ends it when it gets to it; by default none. */
  readonly slack?: number;
}

/** The contract of `Store`, run over every implementation. */
export const storeSuite = (
  name: string,
  open: () => Promise<StoreUnderTest>,
  /** `leases: false` for one that is a single node's: nothing there has to vanish by itself. */
  { leases = true }: { readonly leases?: boolean } = {},
): void => {
  describe(name, () => {
    let under: StoreUnderTest;
    let store: Store;
    const put = async (key: string, value: string | number) => {
      const result = await store.transact({ puts: [{ key, value }] });
      if (!result.ok) throw new Error("refused");
      return result.version;
    };
    const keys = async (prefix: string) => (await store.list(prefix)).map(({ key }) => key);
    /** The keys are these, or come to be within the time (ms) that a server may take to end a lease. */
    const expectKeys = async (prefix: string, expected: readonly string[], within = under.slack ?? 0) => {
      const end = performance.now() + within;
      while (performance.now() < end && (await keys(prefix)).length > expected.length) await delay(100);
      expect(await keys(prefix)).toEqual(expected);
    };

    beforeEach(async () => {
      under = await open();
      store = under.store;
    });
    afterEach(async () => {
      await store.close();
      await under.cleanup();
    });

    it("keeps what it is given", async () => {
      const value = { text: 'ä\u0000"', list: [1, null, true], nested: { a: 1.5 } };
      await store.transact({ puts: [{ key: "a/b", value }] });
      expect(await store.get("a/b")).toMatchObject({ key: "a/b", value });
      expect(await store.get("a")).toBeUndefined();
    });

    it("lists by prefix, in order of bytes, odd characters included", async () => {
      const all = ["a", "a/", "a/%", "a/_", "a/b", "a/\u00e9", "a/\u{1f600}", "a0", "A/b", "b"];
      for (const key of [...all].reverse()) await put(key, 1);
      const sorted = [...all].sort((x, y) => Buffer.compare(Buffer.from(x), Buffer.from(y)));
      expect(await keys("")).toEqual(sorted);
      expect(await keys("a/")).toEqual(sorted.filter((key) => key.startsWith("a/")));
      expect(await keys("a/%")).toEqual(["a/%"]);
      expect(await keys("a/_")).toEqual(["a/_"]);
      expect(await keys("zz")).toEqual([]);
    });

    it("applies a transaction as a whole or not at all, and names exactly the keys in the way", async () => {
      const version = await put("x", 1);
      const refused = await store.transact({
        checks: [
          { key: "x", version: version + 7 },
          { key: "y", version: 3 },
          { key: "z", version: 0 },
        ],
        puts: [{ key: "z", value: 1 }],
        deletes: ["x"],
      });
      expect(refused).toMatchObject({ ok: false });
      expect(refused.ok ? [] : [...refused.conflicts].sort()).toEqual(["x", "y"]);
      expect(await keys("")).toEqual(["x"]);
      const accepted = await store.transact({
        checks: [
          { key: "x", version },
          { key: "z", version: 0 },
        ],
        puts: [
          { key: "z", value: 1 },
          { key: "w", value: 2 },
        ],
        deletes: ["x", "nosuch"],
      });
      expect(accepted.ok).toBe(true);
      expect(await keys("")).toEqual(["w", "z"]);
      if (accepted.ok) for (const { version: of } of await store.list("")) expect(of).toBe(accepted.version);
    });

    it("refuses what is no transaction, and changes nothing", async () => {
      for (const bad of [
        { puts: [{ key: "a", value: 1 }], deletes: ["a"] },
        {
          puts: [
            { key: "a", value: 1 },
            { key: "a", value: 2 },
          ],
        },
        { puts: [{ key: "", value: 1 }] },
        { puts: [{ key: "a\0b", value: 1 }] },
        { puts: [{ key: "k".repeat(2000), value: 1 }] },
        { puts: [{ key: "a", value: "v".repeat(600_000) }] },
      ]) {
        await expect(store.transact(bad)).rejects.toMatchObject({ code: "invalid-transaction" });
      }
      expect(await keys("")).toEqual([]);
    });

    it("never uses a version of a key twice", async () => {
      const seen = new Set<number>();
      for (let n = 0; n < 5; n++) {
        seen.add(await put("k", n));
        await store.transact({ deletes: ["k"] });
      }
      if (under.reopen) {
        store = await under.reopen();
        seen.add(await put("k", 9));
        expect(seen.size).toBe(6);
      } else expect(seen.size).toBe(5);
      expect(Math.min(...seen)).toBeGreaterThan(0);
    });

    it("lets one of many writers win", async () => {
      const version = await put("n", 0);
      const results = await Promise.all(
        Array.from({ length: 20 }, (_, value) =>
          store.transact({ checks: [{ key: "n", version }], puts: [{ key: "n", value }] }),
        ),
      );
      expect(results.filter(({ ok }) => ok)).toHaveLength(1);
    });

    it("watches: a snapshot, then every change in order, for each watcher its own prefix", async () => {
      await put("a/1", 1);
      await put("b/1", 1);
      const abort = new AbortController();
      const all = collect(store.watch("", abort.signal));
      const some = collect(store.watch("a/", abort.signal));
      await all.until((events) => events.length >= 1);
      await some.until((events) => events.length >= 1);
      const version = await put("a/2", 2);
      await put("b/2", 2);
      await store.transact({ deletes: ["a/1"] });
      await all.until((events) => events.length >= 4);
      await some.until((events) => events.length >= 4);
      expect(some.events).toEqual([
        {
          kind: "snapshot",
          version: expect.any(Number) as number,
          entries: [expect.objectContaining({ key: "a/1", value: 1 }) as StoreEntry],
        },
        { kind: "change", version, puts: [{ key: "a/2", value: 2, version }], deletes: [] },
        { kind: "change", version: expect.any(Number) as number, puts: [], deletes: [] },
        { kind: "change", version: expect.any(Number) as number, puts: [], deletes: ["a/1"] },
      ]);
      abort.abort();
      await Promise.all([all.ended, some.ended]);
    });

    it("replays to the same state as a list, whatever was written meanwhile", async () => {
      const abort = new AbortController();
      const watch = collect(store.watch("r/", abort.signal));
      for (let n = 0; n < 200; n++) {
        if (n % 5 === 4) await store.transact({ deletes: [`r/${n % 13}`] });
        else await put(`r/${n % 13}`, n);
      }
      await put("r/end", 1);
      const state = () => {
        const map = new Map<string, unknown>();
        for (const event of watch.events) {
          if (event.kind === "snapshot") {
            map.clear();
            for (const entry of event.entries) map.set(entry.key, entry.value);
          } else if (event.kind === "change") {
            for (const { key, value } of event.puts) map.set(key, value);
            for (const key of event.deletes) map.delete(key);
          }
        }
        return map;
      };
      await watch.until(() => state().has("r/end"));
      const listed = new Map((await store.list("r/")).map(({ key, value }) => [key, value]));
      expect(state()).toEqual(listed);
      abort.abort();
      await watch.ended;
    });

    it("tells one transaction as one change, and where it stands: a watch at the version has seen all before", async () => {
      const abort = new AbortController();
      const watch = collect(store.watch("t/", abort.signal));
      await watch.until((events) => events.length >= 1);
      await store.transact({ puts: ["a", "b", "c"].map((key) => ({ key: `t/${key}`, value: key })) });
      await store.transact({ puts: [{ key: "t/d", value: "d" }], deletes: ["t/a", "t/b"] });
      await put("elsewhere", 1);
      const version = await store.version();
      await watch.until((events) => events.some((event) => event.kind !== "lost" && event.version >= version));
      const changes = watch.events.flatMap((event) =>
        event.kind === "change" ? [[event.puts.map(({ key }) => key).sort(), [...event.deletes].sort()]] : [],
      );
      expect(changes).toEqual([
        [["t/a", "t/b", "t/c"], []],
        [["t/d"], ["t/a", "t/b"]],
        [[], []],
      ]);
      abort.abort();
      await watch.ended;
      expect(await store.version()).toBe(version);
    });

    it.runIf(leases)("takes the entries of a lease away when it ends, not those of another", async () => {
      const ttl = under.ttl ?? 60_000;
      const short = await store.lease(ttl);
      const kept = await store.lease(ttl);
      await store.transact({
        puts: [
          { key: "l/1", value: 1, lease: short.id },
          { key: "l/2", value: 1, lease: kept.id },
          { key: "l/3", value: 1 },
        ],
      });
      await short.revoke();
      expect(await keys("l/")).toEqual(["l/2", "l/3"]);
      await under.elapse((ttl * 2) / 3);
      await kept.renew();
      await under.elapse((ttl * 2) / 3);
      expect(await keys("l/")).toEqual(["l/2", "l/3"]);
      await under.elapse(ttl / 2);
      await expectKeys("l/", ["l/3"]);
      await expect(kept.renew()).rejects.toMatchObject({ code: "lease-lost" });
      await expect(store.transact({ puts: [{ key: "l/4", value: 1, lease: kept.id }] })).rejects.toMatchObject({
        code: "lease-lost",
      });
    });

    it("ends its watches and refuses work when closed", async () => {
      const watch = collect(store.watch("", new AbortController().signal));
      await watch.until((events) => events.length === 1);
      await store.close();
      await watch.ended;
      await expect(store.get("a")).rejects.toMatchObject({ kind: "no-service" });
    });

    it("keeps what it acknowledged over a restart", async (context) => {
      if (!under.reopen) return context.skip("nothing outlives the process");
      const version = await put("a", 1);
      const lease = await store.lease(under.ttl ?? 60_000);
      await store.transact({ puts: [{ key: "b", value: 1, lease: lease.id }] });
      store = await under.reopen();
      // Nobody renews it any more.
      await expectKeys("", ["a"], (under.ttl ?? 0) + (under.slack ?? 0));
      expect(await store.list("")).toEqual([{ key: "a", value: 1, version }]);
    });
  });
};

const collect = (watch: AsyncIterable<WatchEvent>) => {
  const events: WatchEvent[] = [];
  let wake: () => void = () => undefined;
  const ended = (async () => {
    for await (const event of watch) {
      events.push(event);
      wake();
    }
  })();
  const until = async (condition: (events: readonly WatchEvent[]) => boolean) => {
    const deadline = AbortSignal.timeout(10_000);
    while (!condition(events)) {
      deadline.throwIfAborted();
      await new Promise<void>((resolve, reject) => {
        wake = resolve;
        deadline.addEventListener("abort", () => reject(deadline.reason), { once: true });
      });
    }
  };
  return { events, ended, until };
};
