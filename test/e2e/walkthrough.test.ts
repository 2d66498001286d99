import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { Lab } from "../../src/lab/lab.ts";
import { enterOwnHost, expectNothingLeft } from "../own-host.ts";

const script = fileURLToPath(new URL("../../examples/walkthrough.sh", import.meta.url));
// Two hosts, three daemons, some sixty commands, on a machine that others may use.
const deadline = 240_000;
vi.setConfig({ testTimeout: deadline + 10_000, hookTimeout: 60_000 });

beforeAll(() => enterOwnHost());
afterAll(async () => {
  for (const lab of await Lab.list()) await lab.down();
  expectNothingLeft();
});

it.each(["consul", "etcd"])("the walk-through holds, command for command, with %s", async (store) => {
  const { failure, output } = await new Promise<{ failure: unknown; output: string }>((resolve) =>
    execFile(script, [store], { encoding: "utf8", timeout: deadline }, (error, stdout, stderr) =>
      resolve({ failure: error, output: `${stdout}${stderr}` }),
    ),
  );
  expect(failure, output.slice(-3_000)).toBeNull();
  expect(output).toContain("Everything held.");
});
