import * as fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { ConsulStore } from "../../src/store/consul/consul-store.ts";
import { MemoryStore } from "../../src/store/memory/memory-store.ts";
import { VirtualClock } from "../../src/store/memory/virtual-clock.ts";
import type { Lease, Store } from "../../src/store/store.ts";
import { enterOwnHost, expectNothingLeft } from "../own-host.ts";
import { ConsulServer } from "./consul-server.ts";
import { listed, Replica } from "./replica.ts";

enterOwnHost();
const server = new ConsulServer();
beforeAll(() => server.start());
afterAll(async () => {
  await server.remove();
  expectNothingLeft();
});

const leaseCount = 3;
const key = fc.constantFrom("a", "a/1", "a/2", "b", "c/d");
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      checks: fc.array(
        fc.record({ key, holds: fc.oneof({ weight: 4, arbitrary: fc.constant(true) }, fc.constant(false)) }),
        {
          maxLength: 3,
        },
      ),
      writes: fc.uniqueArray(
        fc.record({
          key,
          value: fc.option(fc.oneof(fc.nat(), fc.string({ unit: "binary" }), fc.dictionary(fc.string(), fc.nat())), {
            nil: undefined,
          }),
          lease: fc.option(fc.nat(leaseCount - 1), { nil: undefined }),
        }),
        { maxLength: 4, selector: (write) => write.key },
      ),
    }),
  },
  fc.record({ revoke: fc.nat(leaseCount - 1) }),
);

/** The same steps on one store; each leaves what it was answered, in terms that two stores share. */
const play = async (store: Store, steps: readonly (typeof step extends fc.Arbitrary<infer T> ? T : never)[]) => {
  const leases: Lease[] = [];
  for (let n = 0; n < leaseCount; n++) leases.push(await store.lease(3_600_000));
  const answers: unknown[] = [];
  for (const one of steps) {
    if ("revoke" in one) {
      await leases[one.revoke]?.revoke();
      answers.push("revoked");
    } else {
      const checks = [];
      for (const { key, holds } of one.checks) {
        const version = (await store.get(key))?.version ?? 0;
        checks.push({ key, version: holds ? version : version === 0 ? 7 : one.writes.length % 2 ? 0 : version + 1 });
      }
      const puts = one.writes.flatMap(({ key, value, lease }) =>
        value === undefined ? [] : [{ key, value, ...(lease !== undefined && { lease: leases[lease]?.id ?? "" }) }],
      );
      const deletes = one.writes.filter(({ value }) => value === undefined).map(({ key }) => key);
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
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
      const store = await ConsulStore.open({ address: `${server.address}/model/${++run}`, timeout: 15_000 });
      const memory = new MemoryStore({ clock: new VirtualClock() });
      const replica = new Replica(store);
      try {
        await replica.until("a snapshot", ({ last }) => last?.kind === "snapshot");
        expect(await play(store, steps)).toEqual(await play(memory, steps));
        const state = await listed(store);
        await replica.caughtUp(store);
        await replica.until("the ends of leases", (known) => known.state.size === state.size);
        expect(replica.state).toEqual(state);
      } finally {
        await replica.end();
        await store.close();
        await memory.close();
      }
    }),
    {
      numRuns: 100,
      examples: [
        [
          [
            { checks: [], writes: [{ key: "b", value: "", lease: 1 }] },
            { checks: [{ key: "b", holds: false }], writes: [{ key: "b", value: {}, lease: 0 }] },
          ],
        ],
      ],
    },
  );
}, 600_000);
