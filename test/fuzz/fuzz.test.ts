import fc from "fast-check";
import { expect, it } from "vitest";
import { runs } from "../runs.ts";
import { targets } from "./targets.ts";

/** One short round of each; `make fuzz` goes on for as long as it is told to. */
it.each(targets.map((target) => [target.name, target] as const))("%s takes any input", async (_name, target) => {
  const { property, close } = await target.open();
  try {
    await fc.assert(property, { numRuns: runs(target.perRound) });
  } finally {
    await close();
  }
  expect(target.perRound).toBeGreaterThan(0);
});
