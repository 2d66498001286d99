import * as fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { EtcdStore } from "../../src/store/etcd/etcd-store.ts";
import { MemoryStore } from "../../src/store/memory/memory-store.ts";
import { VirtualClock } from "../../src/store/memory/virtual-clock.ts";
import type { Lease, Store } from "../../src/store/store.ts";
import { enterOwnHost, expectNothingLeft } from "../own-host.ts";
import { EtcdServer } from "./etcd-server.ts";
import { listed, Replica } from "./replica.ts";

enterOwnHost();
const server = new EtcdServer();
beforeAll(() => server.start());
afterAll(async () => {
  await server.remove();
  expectNothingLeft();
});

const leaseCount = 3;
const key = fc.constantFrom("a", "a/1", "a/2", "b", "c/d");
const lease = fc.option(fc.nat(leaseCount - 1), { nil: undefined });
const json = fc.oneof(fc.nat(), fc.string({ unit: "binary" }), fc.dictionary(fc.string(), fc.nat()));
const write = fc.record({ key, value: fc.option(json, { nil: undefined }), lease });
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      checks: fc.array(fc.record({ key, off: fc.constantFrom(0, 0, 0, 1) }), { maxLength: 3 }),
      writes: fc.uniqueArray(write, { maxLength: 4, selector: (one) => one.key }),
    }),
  },
  fc.record({ revoke: fc.nat(leaseCount - 1) }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** The same steps on one store; each leaves what it was answered, in terms that two stores share. */
const play = async (store: Store, steps: readonly Step[]): Promise<readonly unknown[]> => {
  const leases: Lease[] = [];
  for (let n = 0; n < leaseCount; n++) leases.push(await store.lease(3_600_000));
  const revoked = new Set<number>();
  const answers: unknown[] = [];
  for (const one of steps) {
    if ("revoke" in one) {
      await leases[one.revoke]?.revoke();
      revoked.add(one.revoke);
    } else {
      const puts = one.writes.flatMap(({ key, value, lease }) =>
        value === undefined ? [] : [{ key, value, ...(lease !== undefined && { lease: leases[lease]?.id ?? "" }) }],
      );
      const deletes = one.writes.filter(({ value }) => value === undefined).map(({ key }) => key);
      // Which of two reasons a transaction is refused for is the store's choice.
      const dead = one.writes.some(
        ({ value, lease }) => value !== undefined && lease !== undefined && revoked.has(lease),
      );
      const checks = [];
      for (const { key, off } of dead ? [] : one.checks) {
        checks.push({ key, version: ((await store.get(key))?.version ?? 0) + off });
      }
      answers.push(
        await store.transact({ checks, puts, deletes }).then(
          (result) => (result.ok ? "written" : [...result.conflicts].sort()),
          (error: unknown) => (error as { code?: string }).code ?? error,
        ),
      );
    }
    answers.push(await listed(store));
  }
  return answers;
};

it("answers and keeps what a store in memory does, whatever the transactions and leases; a watch tells it all", async () => {
  let run = 0;
  const seen = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
      const store = await EtcdStore.open({ address: `${server.address}/model/${++run}`, timeout: 15_000 });
      const memory = new MemoryStore({ clock: new VirtualClock() });
      const replica = new Replica(store);
      try {
        await replica.until("a snapshot", ({ last }) => last?.kind === "snapshot");
        const answers = await play(store, steps);
        expect(answers).toEqual(await play(memory, steps));
        for (const answer of answers) {
          const what = Array.isArray(answer) ? "in the way" : typeof answer === "string" ? answer : "state";
          seen.set(what, (seen.get(what) ?? 0) + 1);
        }
        await replica.caughtUp(store);
        expect(replica.state).toEqual(await listed(store));
      } finally {
        await replica.end();
        await store.close();
        await memory.close();
      }
    }),
    { numRuns: 100 },
  );
  // All kinds of answers were among them.
  expect([...seen.keys()].sort()).toEqual(["in the way", "lease-lost", "state", "written"]);
}, 600_000);
