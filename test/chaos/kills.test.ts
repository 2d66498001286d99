import { rmSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Lab } from "../../src/lab/lab.ts";
import { enterOwnHost, expectNothingLeft } from "../own-host.ts";
import { runKills } from "./run-kills.ts";

/** `make kills` does a thousand. */
const kills = 6;
const evidence = "/run/kills";

beforeAll(() => enterOwnHost());
afterAll(async () => {
  for (const lab of await Lab.list()) await lab.down();
  rmSync(evidence, { recursive: true, force: true });
  expectNothingLeft();
});

it(`${kills} SIGKILLs of daemons on three nodes under load leave nothing that records do not explain`, async () => {
  const seed = Math.floor(Math.random() * 1_000_000);
  const { problems, summary, acknowledged } = await runKills({
    ...{ store: "etcd", kills, every: kills, seed, port: 42_700, evidence },
  });
  console.log(summary);
  expect(problems, summary).toEqual([]);
  // How much is done between the kills is the machine's; that something is, the test's.
  expect(acknowledged).toBeGreaterThan(5);
}, 400_000);
