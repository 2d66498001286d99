import { readFileSync } from "node:fs";
import fc from "fast-check";
import { bridgeDriver } from "../../src/drivers/bridge/bridge-driver.ts";
import { NetworkError } from "../../src/errors.ts";
import { parseIp } from "../../src/net/ip.ts";
import { MemoryStore } from "../../src/store/memory/memory-store.ts";
import type { Json } from "../../src/store/store.ts";
import { openController } from "../fakes/open-controller.ts";
import { segmentDriver } from "../fakes/segment-driver.ts";
import { fuzzTarget, nearlyJson } from "./target.ts";

const golden = JSON.parse(
  readFileSync(new URL("../golden/records/version-1.json", import.meta.url), "utf8"),
) as Readonly<Record<string, Json>>;
const keys = Object.keys(golden);

/** What lies in the stores, with some of it damaged: at its own key or at another one. */
const damaged = fc.array(
  fc.tuple(
    fc.oneof(
      fc.constantFrom(...keys),
      fc.constantFrom(...keys).map((key) => key.replace(/[^/]+$/, "x")),
      fc.string({ minLength: 1, maxLength: 40 }).map((text) => `local/${text}`),
    ),
    nearlyJson(Object.values(golden)),
  ),
  { minLength: 1, maxLength: 5 },
);

/** Records of peers and of a damaged disk: the controller starts, shows what it can, works, and never throws but typed errors. */
export const records = fuzzTarget(
  "records",
  damaged,
  () => ({
    async check(changes) {
      const [local, global] = [new MemoryStore(), new MemoryStore()];
      const all = new Map([...Object.entries(golden), ...(changes as [string, Json][])]);
      for (const [key, value] of all) {
        const store = key.startsWith("local/") ? local : global;
        // What a store would not take cannot lie there.
        await store.transact({ puts: [{ key, value }] }).catch(() => undefined);
      }
      await local.transact({ puts: [{ key: "host/instance", value: "0a1b2c3d" }] });
      const drivers = [bridgeDriver(), { ...segmentDriver(), name: "overlay" }];
      const opened = await openController({ stores: { local, global }, drivers, place: { vtep: parseIp("10.0.0.1") } });
      const { libnetwork } = opened;
      const attempt = async (work: () => Promise<unknown>) => {
        try {
          await work();
        } catch (error) {
          const all = error instanceof AggregateError ? (error.errors as unknown[]) : [error];
          for (const each of all) if (!(each instanceof NetworkError)) throw each;
        }
      };
      try {
        await libnetwork.diagnose([]);
        for (const { id } of libnetwork.networks()) {
          await attempt(() => libnetwork.createEndpoint(id, { name: "new" }));
        }
        await attempt(() => libnetwork.createNetwork({ name: "new" }));
        await attempt(() => libnetwork.repair([]));
        for (const { id } of libnetwork.sandboxes()) await attempt(() => libnetwork.deleteSandbox(id));
        for (const { id } of libnetwork.endpoints())
          await attempt(() => libnetwork.deleteEndpoint(id, { force: true }));
        for (const { id } of libnetwork.networks()) await attempt(() => libnetwork.deleteNetwork(id));
      } finally {
        await libnetwork.close();
        await Promise.all([local.close(), global.close()]);
      }
    },
  }),
  20,
);
