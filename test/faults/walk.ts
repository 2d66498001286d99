import { spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { build, stop } from "esbuild";
import type { Scenario } from "./scenarios.ts";
import type { Answer, Task } from "./walker.ts";

/** Milliseconds for one process: the longest fails at every point of an operation. */
const deadline = 600_000;

/** A directory of a run's own: where node finds the packages that are no part of a bundle. */
const directory = `.cache/faults-${process.pid}`;

export const buildWalker = async (): Promise<void> => {
  const entries = { walker: "test/faults/walker.ts", "faulty-kernel-worker": "src/faults/faulty-kernel-worker.ts" };
  await build({
    bundle: true,
    platform: "node",
    format: "cjs",
    target: "node22",
    external: ["koffi"],
    define: { "import.meta.url": "importMetaUrl" },
    banner: { js: 'const importMetaUrl = require("node:url").pathToFileURL(__filename).href;' },
    logLevel: "warning",
    entryPoints: entries,
    outdir: directory,
    outExtension: { ".js": ".cjs" },
  });
  // Else its service lives on.
  await stop();
};

export const removeWalker = (): void => rmSync(directory, { recursive: true, force: true });

interface Ended {
  readonly signal: NodeJS.Signals | null;
  readonly answer: Answer | undefined;
  readonly stderr: string;
}

const run = (task: Task): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [`${directory}/walker.cjs`, JSON.stringify(task)], {
      stdio: ["ignore", "ignore", "pipe", "pipe"],
      // Most processes live for as long as it takes to compile their program.
      env: { ...process.env, NODE_COMPILE_CACHE: `${directory}/compiled` },
      timeout: deadline,
      killSignal: "SIGABRT",
    });
    let [stderr, text] = ["", ""];
    child.stderr?.on("data", (bytes: Buffer) => (stderr += bytes.toString()));
    child.stdio[3]?.on("data", (bytes: Buffer) => (text += bytes.toString()));
    child.once("error", reject);
    child.once("close", (_code, signal) =>
      resolve({
        signal,
        stderr,
        answer: text.endsWith("\n") ? (JSON.parse(text.split("\n").at(-2) ?? "") as Answer) : undefined,
      }),
    );
  });

/** What was walked of one operation. */
export interface Walk {
  /** Points that the operation has. */
  readonly points: number;
  /** Failures and deaths at them. */
  readonly walked: number;
  /** Of those: after which the operation had happened. */
  readonly happened: number;
  /** Of the failures: after which something was left that a repair removed. */
  readonly repaired: number;
  /** Of the failures of a start: after which something was missing until the next one. */
  readonly restarted: number;
  readonly problems: readonly string[];
}

/**
 * Walks the points of an operation: fails at each, dies at each.
 * @param every walks one in so many points
 */
export const walk = async (
  scenario: Scenario,
  place: { readonly etcd?: string; readonly notes: string },
  every = 1,
): Promise<Walk> => {
  const result = { points: 0, walked: 0, happened: 0, repaired: 0, restarted: 0 };
  const problems: string[] = [];
  const base = { scenario: scenario.name, ...place };
  const task = async (rest: Pick<Task, "work" | "points" | "left">): Promise<Ended> => {
    const ended = await run({ ...base, ...rest });
    const { answer } = ended;
    if (answer) {
      result.happened += answer.happened;
      result.repaired += answer.repaired;
      result.restarted += answer.restarted;
      problems.push(...answer.problems);
    }
    return ended;
  };
  const unexpected = (what: string, { signal, stderr }: Ended) =>
    problems.push(`${what}: the process ended by itself (${signal ?? "without a signal"}): ${stderr.slice(-2_000)}`);
  const measured = await task({ work: "measure", points: [] });
  if (!measured.answer) unexpected("measure", measured);
  const points = measured.answer?.points ?? 0;
  // The middle one among them: an operation that waits for what others tell passes a point more or less each time.
  const middle = Math.ceil(points / 2);
  const chosen = Array.from({ length: points }, (_, n) => n + 1).filter((n) => n % every === middle % every);
  const chain = async (mode: "fail" | "die") => {
    let left: Task["left"];
    for (const point of [...chosen, undefined]) {
      const ended = await task({ work: mode, points: point === undefined ? [] : [point], ...(left && { left }) });
      left = undefined;
      if (point === undefined || ended.answer?.survived) continue;
      if (mode === "die" ? ended.signal !== "SIGKILL" : !ended.answer) unexpected(`${mode} at ${point}`, ended);
      else result.walked++;
      left = { point, mode };
    }
  };
  if (problems.length === 0) {
    if (scenario.ends) await chain("fail");
    else {
      const failed = await task({ work: "fail", points: chosen });
      if (failed.answer) result.walked += failed.answer.failed;
      else unexpected("fail", failed);
    }
    await chain("die");
  }
  const cleared = await task({ work: "clear", points: [] });
  if (!cleared.answer) unexpected("clear", cleared);
  return { ...result, points, problems };
};
