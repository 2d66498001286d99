import { afterAll, afterEach, beforeEach, expect, it } from "vitest";
import { NetworkError } from "../../src/errors.ts";
import { EtcdStore } from "../../src/store/etcd/etcd-store.ts";
import { enterOwnHost, eventually, expectNothingLeft, run } from "../own-host.ts";
import { EtcdServer } from "./etcd-server.ts";
import { listed, Replica } from "./replica.ts";

enterOwnHost();
afterAll(expectNothingLeft);

let members: EtcdServer[];
let store: EtcdStore;
/** One that waits longer, for what must succeed on a busy machine. */
let patient: EtcdStore;
let replica: Replica;

beforeEach(async () => {
  const names = ["one", "two", "three"].map((name, n) => ({ name, peerPort: 2380 + 10 * n }));
  members = names.map((own, n) => new EtcdServer({ ...own, clientPort: 2379 + 10 * n, members: names }));
  for (const member of members) member.spawn();
  for (const member of members) await member.ready();
  store = await EtcdStore.open({ address: members.map(({ address }) => address) });
  patient = await EtcdStore.open({ address: members.map(({ address }) => address), timeout: 10_000 });
  replica = new Replica(store);
  await replica.until("a snapshot", ({ events }) => events.some(({ kind }) => kind === "snapshot"));
});
afterEach(async () => {
  await store.close();
  await patient.close();
  await replica.end();
  for (const member of members) await member.remove();
});

const member = (n: number): EtcdServer => {
  const found = members[n];
  if (!found) throw new Error("no such member");
  return found;
};

/** The member that leads, as the members themselves say. */
const leader = async (among: readonly EtcdServer[] = members): Promise<EtcdServer> => {
  let found: EtcdServer | undefined;
  await eventually(
    "one leads",
    () => {
      const endpoints = among.map(({ address }) => address).join(",");
      let text: string;
      try {
        text = run("etcdctl", "--endpoints", endpoints, "endpoint", "status", "-w", "json");
      } catch {
        // One of them is late.
        return false;
      }
      const all = JSON.parse(text) as { Endpoint: string; Status: { header: { member_id: number }; leader: number } }[];
      const one = all.find(({ Status }) => Status.leader === Status.header.member_id);
      found = among.find(({ address }) => address === one?.Endpoint);
      return found !== undefined;
    },
    30_000,
  );
  if (!found) throw new Error("nobody leads");
  return found;
};

/** Writes as fast as it can until it is told to stop; remembers what was acknowledged and what nobody knows of. */
const writer = (into: EtcdStore) => {
  const acknowledged: number[] = [];
  const unknown: number[] = [];
  const refused: number[] = [];
  let going = true;
  const done = (async () => {
    for (let n = 1; going; n++) {
      try {
        await into.transact({ puts: [{ key: `w/${n}`, value: n }], deletes: [] });
        acknowledged.push(n);
      } catch (error) {
        (error instanceof NetworkError ? refused : unknown).push(n);
      }
    }
  })();
  const stop = async () => {
    going = false;
    await done;
  };
  return { acknowledged, unknown, refused, stop };
};

it.each([
  ["killed", (one: EtcdServer) => one.stop("SIGKILL")],
  ["stopped", (one: EtcdServer) => one.stop("SIGTERM")],
  ["hung", async (one: EtcdServer) => one.pause()],
])("the leader is %s: work goes on with the others, nothing acknowledged is lost", async (what, take) => {
  const writing = writer(store);
  const enough = async (more: number) => {
    const from = writing.acknowledged.length;
    await eventually("writes go on", () => writing.acknowledged.length >= from + more, 60_000);
  };
  await enough(20);
  const first = await leader();
  await take(first);
  await enough(50);
  const second = await leader(members.filter((one) => one !== first));
  expect(second).not.toBe(first);
  if (what === "hung") first.resume();
  else await first.start();
  await enough(20);
  await writing.stop();
  const state = await listed(patient, "w/");
  for (const n of writing.acknowledged) expect(state.get(`w/${n}`)).toBe(n);
  // What was refused was not written, whatever happened; of what nobody knows, anything may be.
  for (const n of writing.refused) expect(state.has(`w/${n}`)).toBe(false);
  expect(state.size).toBeLessThanOrEqual(writing.acknowledged.length + writing.unknown.length);
  await replica.caughtUp(patient);
  expect(new Map(replica.state)).toEqual(state);
  expect(replica.of("snapshot")).toHaveLength(1);
  const { acknowledged, unknown, refused } = writing;
  console.log(
    `etcd leader ${what}: ${acknowledged.length} acknowledged, ${unknown.length} unknown, ${refused.length} refused, 0 lost`,
  );
});

it("without a majority: said, and every call fails in time; with one again, all is caught up", async () => {
  await patient.transact({ puts: [{ key: "a", value: 1 }] });
  const lease = await patient.lease(60_000);
  await member(1).stop();
  await member(2).stop();
  const took: number[] = [];
  for (const call of [
    () => store.transact({ puts: [{ key: "b", value: 1 }] }),
    () => store.get("a"),
    () => store.version(),
  ]) {
    const began = performance.now();
    await expect(call()).rejects.toThrow(Error);
    took.push(Math.round(performance.now() - began));
  }
  console.log(`etcd without a majority: transact, get, version failed after ${took.join(", ")} ms`);
  await replica.until("lost", ({ lost }) => lost);
  // Once the last member knows that nobody leads, it refuses at once, and that is no lost answer.
  await eventually(
    "refused",
    async () => {
      const error: unknown = await store.transact({ puts: [{ key: "c", value: 1 }] }).catch((error: unknown) => error);
      return error instanceof NetworkError && error.code === "store-unavailable";
    },
    30_000,
  );
  // Nobody knows whether the lease is there: it must not be said to be lost.
  await expect(lease.renew()).rejects.toMatchObject({ code: "store-unavailable" });
  await member(1).start();
  await replica.until("back", ({ lost }) => !lost);
  await eventually(
    "renewed",
    () =>
      lease.renew().then(
        () => true,
        () => false,
      ),
    30_000,
  );
  const result = await patient.transact({ puts: [{ key: "d", value: 1 }] });
  await replica.caughtUp(patient);
  expect(replica.last).toMatchObject({ kind: "change", version: result.ok ? result.version : 0 });
  expect(new Map(replica.state)).toEqual(await listed(patient));
});

it("a follower dies, to which the watch is connected: no loss is told, none is had", async () => {
  const led = await leader();
  const followers = members.filter((one) => one !== led);
  const [first, second] = followers;
  if (!first || !second) throw new Error("no followers");
  const own = await EtcdStore.open({ address: [first, second, led].map(({ address }) => address), timeout: 10_000 });
  const watched = new Replica(own);
  try {
    await watched.until("a snapshot", ({ events }) => events.length > 0);
    await first.stop("SIGKILL");
    for (let n = 0; n < 20; n++) await patient.transact({ puts: [{ key: `k/${n}`, value: n }] });
    await watched.caughtUp(own);
    expect(new Map(watched.state)).toEqual(await listed(own));
    expect(watched.of("lost")).toEqual([]);
    expect(watched.of("snapshot")).toHaveLength(1);
  } finally {
    await own.close();
    await watched.end();
  }
});
