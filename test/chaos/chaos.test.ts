import { rmSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Lab } from "../../src/lab/lab.ts";
import { enterOwnHost, expectNothingLeft } from "../own-host.ts";
import { runChaos } from "./run-chaos.ts";

/** Of each store; `make chaos` takes longer. */
const seconds = 30;
const evidence = "/run/chaos";

beforeAll(() => enterOwnHost());
afterAll(async () => {
  for (const lab of await Lab.list()) await lab.down();
  rmSync(evidence, { recursive: true, force: true });
  expectNothingLeft();
});

it.each(["etcd", "consul"] as const)(
  "three nodes on %s, random operations and faults: the history is that of one cluster, and nothing is left over",
  async (store) => {
    const seed = Math.floor(Math.random() * 1_000_000);
    const { problems, summary, acknowledged } = await runChaos({ store, seconds, seed, port: 42_500, evidence });
    console.log(summary);
    expect(problems, summary).toEqual([]);
    // A history in which nothing happened proves nothing.
    expect(acknowledged).toBeGreaterThan(20);
  },
  400_000,
);
