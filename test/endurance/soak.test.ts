import { afterAll, beforeAll, expect, it } from "vitest";
import { DaemonProcess, ok } from "../e2e/dnet.ts";
import { enterOwnHost, expectNothingLeft } from "../own-host.ts";
import { runSoak } from "./run-soak.ts";

/** `make soak` takes an hour. */
const seconds = Number(process.env.SOAK_SECONDS ?? 120);

beforeAll(() => enterOwnHost());
afterAll(() => expectNothingLeft());

it(
  `${seconds} s of churn leave the daemon and the kernel as they were`,
  async () => {
    const daemon = await DaemonProcess.start();
    const { problems, table, rounds } = await runSoak(daemon.pid, "/run/dnet.sock", seconds);
    console.log(`${rounds} rounds in ${seconds} s\n${table}`);
    expect(problems).toEqual([]);
    expect(daemon.log).not.toMatch(/level=error/);
    for (const { id } of JSON.parse(ok("network", "ls", "--format", "json")) as { id: string }[])
      ok("network", "rm", id);
    await daemon.stop();
  },
  (seconds + 120) * 1000,
);
