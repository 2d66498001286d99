import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { enterOwnHost, expectNothingLeft } from "../own-host.ts";

beforeAll(() => enterOwnHost());
afterAll(() => expectNothingLeft());

it("the library's example pings from one sandbox to the other and leaves nothing", () => {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ["examples/two-sandboxes/main.ts", "/run/two-sandboxes"],
    { encoding: "utf8", timeout: 60_000 },
  );
  expect(stderr).toBe("");
  expect(stdout).toContain("1 received");
  expect(status).toBe(0);
  rmSync("/run/two-sandboxes", { recursive: true });
});
