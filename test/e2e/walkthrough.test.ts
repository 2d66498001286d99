import { spawn } from "node:child_process";
import { once } from "node:events";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Lab } from "../../src/lab/lab.ts";
import { enterOwnHost, eventually, expectNothingLeft } from "../own-host.ts";
import { Belongings } from "./lab-belongings.ts";

/** Most of it is pings and starts of daemons; on a machine that others use, many times more. */
const deadline = 300_000;

beforeAll(() => enterOwnHost());
afterAll(async () => {
  for (const lab of await Lab.list()) await lab.down();
  expectNothingLeft();
});

const walk = async (store: string, port: number): Promise<{ readonly output: string; readonly had: Belongings }> => {
  const child = spawn("examples/walkthrough.sh", [store], {
    stdio: ["ignore", "pipe", "pipe"],
    timeout: deadline,
    env: { ...process.env, DNET_LAB_PORT: String(port) },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const ended = once(child, "close");
  const name = `walkthrough-${store}`;
  const found = async () => (await Lab.list()).find((lab) => lab.name === name);
  await eventually(
    `the lab of ${store} is up\n${output}`,
    async () => child.exitCode !== null || (await found()) !== undefined,
    120_000,
  );
  const state = await (await found())?.state();
  const had = state && new Belongings(state);
  await ended;
  // With its output, for whoever has to find out what did not hold.
  if (child.exitCode !== 0 || !had) throw new Error(`${store}: status ${child.exitCode}\n${output.slice(-8_000)}`);
  return { output, had };
};

it(
  "the document's walk-through holds command for command on consul and on etcd, and leaves nothing",
  async () => {
    for (const { output, had } of await Promise.all([walk("consul", 42_100), walk("etcd", 42_200)])) {
      expect(output).toContain("Everything held.");
      await had.expectGone();
    }
  },
  deadline + 60_000,
);
