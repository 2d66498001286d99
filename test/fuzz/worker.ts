import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { parentPort, workerData } from "node:worker_threads";
import fc from "fast-check";
import { targets } from "./targets.ts";

/** One target for a while, in a thread of its own: whoever watches it sees by a counter that it goes on. */

export interface Job {
  readonly target: string;
  readonly seconds: number;
  readonly seed: number;
  /** Of one input, to see it again. */
  readonly path: string | undefined;
  readonly counter: SharedArrayBuffer;
}

export type Report =
  | { readonly kind: "round"; readonly seed: number }
  | { readonly kind: "done"; readonly runs: number; readonly rounds: number; readonly grown: number }
  | {
      readonly kind: "failed";
      readonly seed: number;
      readonly path: string;
      readonly input: string;
      readonly error: string;
    };

/** Inputs of a round: each has a seed of its own and a fresh instance. */
const perRound = 1_000;
/** Bytes that may be held after a round beside what was held after the first ones. */
const mostGrowth = 64 * 1024 * 1024;
const settling = 3;
/** Milliseconds that what is closed may still wait for something. */
const longestDeadline = 8_000;

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;
const held = (): number => {
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
};

const { target: name, seconds, seed: first, path, counter } = workerData as Job;
const count = new Int32Array(counter);
const say = (report: Report): void => parentPort?.postMessage(report);
const target = targets.find((one) => one.name === name);
if (!target) throw new Error(`there is no target ${name}`);

const end = performance.now() + seconds * 1_000;
let runs = 0;
let rounds = 0;
let base = 0;
let grown = 0;
do {
  const seed = (first + rounds) | 0;
  say({ kind: "round", seed });
  const { property, close } = await target.open();
  const counted = property.beforeEach(async (before) => {
    await before();
    // Where nothing waits for anything, no timer comes to its turn.
    if (Atomics.add(count, 0, 1) % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  });
  const limit = { interruptAfterTimeLimit: Math.max(1_000, end - performance.now()), markInterruptAsFailure: false };
  const result = await fc.check(counted, { numRuns: perRound, seed, ...(path === undefined ? limit : { path }) });
  await close();
  runs += result.numRuns;
  rounds++;
  if (result.failed) {
    say({
      kind: "failed",
      seed,
      path: result.counterexamplePath ?? "",
      input: fc.stringify(result.counterexample),
      error: result.errorInstance instanceof Error ? (result.errorInstance.stack ?? "") : String(result.errorInstance),
    });
    process.exit(1);
  }
  let now = held();
  if (rounds > settling && now - base > mostGrowth) {
    // What waits for a deadline is held until that is over.
    await new Promise((resolve) => setTimeout(resolve, longestDeadline));
    now = held();
  }
  if (rounds <= settling) base = Math.max(base, now);
  grown = now - base;
  if (grown > mostGrowth) {
    const error = `it holds ${grown >> 20} MiB more than after ${settling} rounds`;
    say({ kind: "failed", seed, path: "", input: `the ${rounds} rounds up to this seed`, error });
    process.exit(1);
  }
} while (path === undefined && performance.now() < end);
say({ kind: "done", runs, rounds, grown });
