import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { enterOwnHost, expectNothingLeft } from "../own-host.ts";
import { ok } from "./dnet.ts";

beforeAll(() => enterOwnHost());
afterAll(() => expectNothingLeft());

it("a daemon whose log's reader went away works on and ends when it is told to", async () => {
  const executable = fileURLToPath(new URL("../../bin/dnet", import.meta.url));
  const daemon = spawn(executable, ["-d", "-D"], { stdio: ["ignore", "ignore", "pipe"] });
  try {
    let log = "";
    while (!log.includes(" is ready")) log += String((await once(daemon.stderr, "data"))[0]);
    daemon.stderr.destroy();
    ok("network", "create", "web");
    ok("container", "create", "c1");
    ok("container", "rm", "c1");
    for (const network of ["web", "bridge"]) ok("network", "rm", network);
    daemon.kill("SIGTERM");
    expect(await once(daemon, "exit", { signal: AbortSignal.timeout(30_000) })).toEqual([0, null]);
  } finally {
    daemon.kill("SIGKILL");
  }
});
