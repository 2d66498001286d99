import { mkdirSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { targets } from "./targets.ts";
import type { Job, Report } from "./worker.ts";

/**
 * `make fuzz`: every target in turn, each for its part of the time.
 * --seconds N for all together; --seed N; --target NAME for one alone; --path P for one input of one seed, as a failure names it.
 */

/** Milliseconds that one input may take. */
const deadline = 10_000;
/** Heap of a target, in MiB: an input that needs more is a failure. */
const mostHeap = 512;
const directory = ".cache/fuzz";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "600" },
    seed: { type: "string" },
    target: { type: "string" },
    path: { type: "string" },
  },
});
const chosen = targets.filter(({ name }) => values.target === undefined || name === values.target);
const seed = Number(values.seed ?? Math.floor(Math.random() * 1e9));
const seconds = Number(values.seconds) / chosen.length;
if (chosen.length === 0 || !Number.isInteger(seed) || !(seconds > 0)) {
  console.error(`usage: --seconds N --seed N --target ${targets.map(({ name }) => name).join("|")} --path P`);
  process.exit(2);
}

type Failure = Omit<Extract<Report, { kind: "failed" }>, "kind">;
type Outcome = { readonly failure: Failure } | Extract<Report, { kind: "done" }>;

const run = (target: string): Promise<Outcome> =>
  new Promise((resolve) => {
    const counter = new SharedArrayBuffer(4);
    const count = new Int32Array(counter);
    const job: Job = { target, seconds, seed, path: values.path, counter };
    const worker = new Worker(new URL("./worker.ts", import.meta.url), {
      workerData: job,
      resourceLimits: { maxOldGenerationSizeMb: mostHeap },
    });
    let round = { seed, began: -1 };
    let last = { count: -1, at: performance.now() };
    const settle = (outcome: Outcome) => {
      clearInterval(watch);
      resolve(outcome);
      void worker.terminate();
    };
    /** Of the input that was under way: the n-th of its round. */
    const fail = (error: string) => {
      const path = String(Math.max(0, Atomics.load(count, 0) - round.began - 1));
      settle({ failure: { seed: round.seed, path, input: "as the path says", error } });
    };
    const watch = setInterval(() => {
      const now = Atomics.load(count, 0);
      // Until the first round there are modules to load.
      if (round.began < 0) return;
      if (now !== last.count) last = { count: now, at: performance.now() };
      else if (performance.now() - last.at > deadline) fail(`no end within ${deadline} ms`);
    }, 250);
    worker.on("message", (report: Report) => {
      if (report.kind === "round") {
        round = { seed: report.seed, began: Atomics.load(count, 0) };
        last = { count: -1, at: performance.now() };
      } else settle(report.kind === "failed" ? { failure: report } : report);
    });
    worker.on("error", (error: Error) => fail(error.stack ?? error.message));
    worker.on("exit", () => fail("the thread ended"));
  });

console.log(`seed ${seed}, ${seconds.toFixed(1)} s for each of ${chosen.length} targets`);
let failures = 0;
for (const { name } of chosen) {
  const began = performance.now();
  const outcome = await run(name);
  const took = ((performance.now() - began) / 1_000).toFixed(1);
  if ("failure" in outcome) {
    failures++;
    const { seed: at, path, input, error } = outcome.failure;
    const file = `${directory}/${name}-${at}.txt`;
    const again = `make fuzz TARGET=${name} SEED=${at}${path === "" ? "" : ` RUN_PATH=${path}`}`;
    mkdirSync(directory, { recursive: true });
    writeFileSync(file, `${again}\n\n${error}\n\n${input}\n`);
    console.log(`${name.padEnd(12)} FAILED after ${took} s, seed ${at}, path ${path || "none"}: ${file}`);
    console.log(`${error.split("\n").slice(0, 4).join("\n")}\nagain with: ${again}`);
  } else {
    const { runs, rounds, grown } = outcome;
    console.log(
      `${name.padEnd(12)} ${String(runs).padStart(9)} inputs in ${took} s, seeds ${seed} to ${seed + rounds - 1}, ${(grown / 1_048_576).toFixed(1)} MiB more held at the end`,
    );
  }
}
process.exit(failures > 0 ? 1 : 0);
