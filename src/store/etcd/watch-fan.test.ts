import { setImmediate as turn } from "node:timers/promises";
import { afterEach, expect, it } from "vitest";
import type { Json, WatchEvent } from "../store.ts";
import { type Change, type Snapshot, WatchFan } from "./watch-fan.ts";

const abort: AbortController[] = [];
afterEach(() => {
  for (const one of abort.splice(0)) one.abort();
});

const change = (version: number, key: string, value: Json = 1, bytes = 1): Change => ({
  version,
  puts: [{ key, value, version }],
  deletes: [],
  bytes,
});
const empty = (version: number): Snapshot => ({ version, entries: [] });
/** A watcher that takes an event when it is asked to. */
const watcher = (fan: WatchFan, snapshot: () => Snapshot | Promise<Snapshot>, prefix = "") => {
  const own = new AbortController();
  abort.push(own);
  const iterator = fan.watch(prefix, own.signal, async () => snapshot())[Symbol.asyncIterator]();
  return {
    abort: own,
    next: async (): Promise<WatchEvent | undefined> => {
      const { value, done } = await iterator.next();
      return done ? undefined : value;
    },
  };
};

it("reads no snapshot before the stream has begun: changes in between would be missed", async () => {
  const fan = new WatchFan();
  let read = 0;
  const one = watcher(fan, () => empty(++read));
  const first = one.next();
  await turn();
  expect(read).toBe(0);
  fan.begin();
  expect(await first).toEqual({ kind: "snapshot", ...empty(1) });
});

it("tells a change once, whether the snapshot had it or not", async () => {
  const fan = new WatchFan();
  fan.begin();
  const one = watcher(fan, async () => {
    // The stream tells these while the snapshot is on its way, which has been read between them.
    fan.publish(change(5, "a"));
    fan.publish(change(6, "b"));
    return empty(5);
  });
  expect(await one.next()).toMatchObject({ kind: "snapshot", version: 5 });
  expect(await one.next()).toMatchObject({ kind: "change", version: 6 });
});

it("gives one that is slow a snapshot in the place of too many changes, or of too large ones", async () => {
  const fan = new WatchFan();
  fan.begin();
  let version = 1;
  const many = watcher(fan, () => empty(version));
  const large = watcher(fan, () => empty(version));
  await many.next();
  await large.next();
  for (let n = 0; n < 10_001; n++) fan.publish(change(++version, "k"));
  expect(await many.next()).toMatchObject({ kind: "snapshot", version });
  expect(await large.next()).toMatchObject({ kind: "snapshot", version });
  for (let n = 0; n < 3; n++) fan.publish(change(++version, "k", 1, 16 * 1024 * 1024));
  expect(await large.next()).toMatchObject({ kind: "snapshot", version });
});

it("says a loss once, and that it is over without a change", async () => {
  const fan = new WatchFan();
  fan.begin();
  const one = watcher(fan, () => empty(3));
  await one.next();
  fan.lost("away");
  fan.lost("still away");
  expect(await one.next()).toEqual({ kind: "lost", reason: "away" });
  const late = watcher(fan, () => empty(4));
  expect(await late.next()).toEqual({ kind: "lost", reason: "away" });
  fan.back(2);
  expect(await one.next()).toEqual({ kind: "change", version: 3, puts: [], deletes: [] });
  expect(await late.next()).toMatchObject({ kind: "snapshot", version: 4 });
});

it("throws a snapshot away when the stream begins anew meanwhile", async () => {
  const fan = new WatchFan();
  fan.begin();
  let read = 0;
  const one = watcher(fan, () => {
    if (++read === 1) fan.begin();
    return empty(read);
  });
  expect(await one.next()).toMatchObject({ version: 2 });
});

it("says a loss where the snapshot cannot be read, and reads it later", async () => {
  const fan = new WatchFan();
  fan.begin();
  let read = 0;
  const one = watcher(fan, () => {
    if (++read === 1) throw new Error("not now");
    return empty(7);
  });
  expect(await one.next()).toEqual({ kind: "lost", reason: "not now" });
  expect(await one.next()).toMatchObject({ kind: "snapshot", version: 7 });
});

it("ends with the watcher's signal, and with the store", async () => {
  const fan = new WatchFan();
  const [one, other] = [watcher(fan, () => empty(1)), watcher(fan, () => empty(1))];
  const ends = [one.next(), other.next()];
  one.abort.abort();
  expect(await ends[0]).toBeUndefined();
  fan.close();
  expect(await ends[1]).toBeUndefined();
});
