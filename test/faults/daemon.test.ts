import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { DaemonProcess, dnet, ok } from "../e2e/dnet.ts";
import { enterOwnHost, expectNothingLeft } from "../own-host.ts";

/** A daemon that is armed by its environment says so, and what it died of is put right by the next one. */

beforeAll(() => enterOwnHost());
afterAll(() => expectNothingLeft());

const executable = fileURLToPath(new URL("../../bin/dnet", import.meta.url));

/** A daemon that is expected to end by itself. */
const ended = (faults: string) => {
  const env = { PATH: process.env.PATH ?? "", DNET_FAULTS: faults };
  const { status, signal, stderr } = spawnSync(executable, ["-d"], { encoding: "utf8", env, timeout: 30_000 });
  return { status, signal, stderr };
};

it("dies at its point, loudly; the next start is a good one", async () => {
  const { signal, stderr } = ended("die@20");
  expect(signal).toBe("SIGKILL");
  expect(stderr).toContain("DNET_FAULTS=die@20: this daemon will fail or die on purpose");
  expect(stderr).toMatch(/\nfault 20: (before|after) .+\n$/);
  const daemon = await DaemonProcess.start();
  expect(daemon.log).not.toContain("DNET_FAULTS");
  expect(dnet("doctor").status).toBe(0);
  ok("network", "rm", "bridge");
  expect(await daemon.stop()).toBe(0);
});

it("fails at its point: a start that cannot go on ends", () => {
  const { status, stderr } = ended("fail@1");
  expect(status).toBe(1);
  expect(stderr).toContain("fault 1: before ");
});

it("does not start with a word that it does not know", () => {
  const { status, stderr } = ended("maybe");
  expect(status).toBe(1);
  expect(stderr).toContain('invalid DNET_FAULTS: \\"maybe\\" is not fail@N or die@N');
});
