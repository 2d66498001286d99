import { afterAll, beforeAll, expect, it } from "vitest";
import { ConsulStore } from "../../src/store/consul/consul-store.ts";
import type { Store } from "../../src/store/store.ts";
import { enterOwnHost, expectNothingLeft } from "../own-host.ts";
import { ConsulServer } from "./consul-server.ts";
import { Relay } from "./relay.ts";
import { Replica } from "./replica.ts";

enterOwnHost();
const server = new ConsulServer();
beforeAll(() => server.start());
afterAll(async () => {
  await server.remove();
  expectNothingLeft();
});

const transactions = 50;

/** Bytes a transaction, by who writes and by who watches, with so many keys in the store. */
const traffic = async (keys: number): Promise<{ readonly writer: number; readonly watcher: number }> => {
  const prefix = `traffic/${keys}`;
  const links = [await new Relay(8601, 8500).open(), await new Relay(8602, 8500).open()] as const;
  const [writer, watcher] = await Promise.all(
    links.map(({ address }) => ConsulStore.open({ address: `${address}/${prefix}`, timeout: 15_000 })),
  );
  if (!writer || !watcher) throw new Error("two links, two stores");
  // A node of a cluster holds a lease.
  await writer.lease(60_000);
  for (let n = 0; n < keys; n += 50) {
    const made = Array.from({ length: 50 }, (_, m) => `global/endpoints/net/${n + m}`);
    await writer.transact({
      checks: made.map((key) => ({ key, version: 0 })),
      puts: made.map((key) => ({ key, value: { id: key, addresses: ["10.0.0.1/16"], name: key } })),
    });
  }
  const replica = new Replica(watcher as Store, "global/");
  await replica.until("a snapshot", ({ state }) => state.size === keys);
  await replica.caughtUp(writer);
  const before = links.map(({ sent, received }) => sent + received);
  for (let n = 0; n < transactions; n++) {
    const key = `global/endpoints/net/new-${String(n).padStart(4, "0")}`;
    await writer.transact({ checks: [{ key, version: 0 }], puts: [{ key, value: { id: key, name: key } }] });
    await replica.until("the change", ({ state }) => state.has(key));
  }
  const [written = 0, watched = 0] = links.map(
    ({ sent, received }, n) => (sent + received - (before[n] ?? 0)) / transactions,
  );
  await replica.end();
  await Promise.all([writer.close(), watcher.close()]);
  await Promise.all(links.map((link) => link.close()));
  return { writer: Math.round(written), watcher: Math.round(watched) };
};

it("costs the same bytes a transaction with 100 keys and with 3000, for the writer and for who watches", async () => {
  const few = await traffic(100);
  const many = await traffic(3_000);
  console.log(
    `consul: bytes a transaction with 100 keys: writer ${few.writer}, watcher ${few.watcher}; with 3000: writer ${many.writer}, watcher ${many.watcher}`,
  );
  expect(few.writer).toBeGreaterThan(100);
  expect(few.watcher).toBeGreaterThan(100);
  expect(many.writer).toBeLessThan(few.writer * 1.25);
  expect(many.watcher).toBeLessThan(few.watcher * 1.25);
}, 120_000);
