import { afterEach, expect, it } from "vitest";
import { ConsulStore } from "../../src/store/consul/consul-store.ts";
import { enterOwnHost, eventually, expectNothingLeft } from "../own-host.ts";
import { ConsulServer, consulRequest } from "./consul-server.ts";
import { listed, Replica } from "./replica.ts";

enterOwnHost();

const ips = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
const servers = ips.map((ip) => new ConsulServer({ ip, cluster: ips }));
const stores: ConsulStore[] = [];
afterEach(async () => {
  await Promise.all(stores.splice(0).map((store) => store.close()));
  await Promise.all(servers.map((server) => server.remove()));
  expectNothingLeft();
});

it("7: a leader that dies loses nothing that was acknowledged, and no watch", async () => {
  await Promise.all(servers.map((server) => server.start()));
  const address = servers.map((server) => `${server.address}/cluster`);
  const [writer, watcher] = await Promise.all(
    [address, [...address].reverse()].map((given) => ConsulStore.open({ address: given, timeout: 5_000 })),
  );
  if (!writer || !watcher) throw new Error("two addresses, two stores");
  stores.push(writer, watcher);
  const replica = new Replica(watcher);
  const lease = await writer.lease(60_000);
  await writer.transact({ puts: [{ key: "node", value: 1, lease: lease.id }] });
  const acknowledged = new Map<string, number>([["node", 1]]);
  const doubtful = new Set<string>();
  let n = 0;
  const write = async () => {
    const key = `k/${n}`;
    try {
      await writer.transact({ puts: [{ key, value: n }] });
      acknowledged.set(key, n);
    } catch {
      doubtful.add(key);
    }
    n++;
  };
  for (let round = 0; round < 2; round++) {
    for (let m = 0; m < 20; m++) await write();
    const alive = servers.find(({ pid }) => pid > 0)?.address ?? "";
    let dying: ConsulServer | undefined;
    // On a busy machine leaders step down.
    await eventually(
      "one leads",
      async () => {
        const leader = JSON.parse((await consulRequest("GET", alive, "/v1/status/leader")).body) as string;
        dying = servers.find(({ address: one }) => one.split(":")[0] === leader.split(":")[0]);
        return dying !== undefined;
      },
      30_000,
    );
    if (!dying) throw new Error("nobody leads");
    await dying.stop("SIGKILL");
    const before = acknowledged.size;
    await eventually("written again", async () => write().then(() => acknowledged.size > before), 60_000);
    await lease.renew();
    await dying.start();
  }
  for (let m = 0; m < 20; m++) await write();
  await replica.caughtUp(writer);
  const state = await listed(writer);
  expect(replica.state).toEqual(state);
  for (const [key, value] of acknowledged) expect(state.get(key), key).toBe(value);
  for (const key of state.keys()) expect(acknowledged.has(key) || doubtful.has(key), key).toBe(true);
  expect(replica.of("snapshot")).toHaveLength(1);
  // Longer than a query waits, with several addresses to choose from.
  const short = await writer.lease(10_000);
  await writer.transact({ puts: [{ key: "short", value: 1, lease: short.id }] });
  await replica.caughtUp(writer);
  const told = replica.events.length;
  await replica.until("the lease runs out", ({ state: now }) => !now.has("short"));
  expect(replica.events.slice(told)).toMatchObject([{ kind: "change", deletes: ["short"] }]);
  await replica.end();
}, 300_000);
