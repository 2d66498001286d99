import { chmodSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { plan } from "../../src/linux/plan.ts";
import { WorkerKernel } from "../../src/linux/worker-kernel.ts";
import { enterOwnHost, eventually, expectNothingLeft, run } from "../own-host.ts";

/** A call into the kernel that does not come back, played by an nft that waits for a file. */
const directory = "/run/hanging";
const gate = `${directory}/gate`;
const slow = `${directory}/slow`;
const entered = `${directory}/entered`;

let kernel: WorkerKernel;
beforeAll(() => {
  enterOwnHost();
  mkdirSync(directory);
  writeFileSync(
    `${directory}/nft`,
    `#!/bin/sh\necho > ${entered}\n[ -e ${slow} ] && sleep 0.6\nwhile [ ! -e ${gate} ]; do sleep 0.05; done\ncat > /dev/null\n`,
  );
  chmodSync(`${directory}/nft`, 0o755);
  const { PATH } = process.env;
  process.env.PATH = `${directory}:${PATH}`;
  kernel = new WorkerKernel({ patience: 4_000 });
});
afterAll(async () => {
  await kernel.close();
  rmSync(directory, { recursive: true });
  expectNothingLeft();
});

it("10, moby 5618, moby 18156: a kernel that hangs is given up within the time, refused to others at once, and used again when it answers", async () => {
  const links = () => kernel.observe("host").then((observed) => observed?.links.map(({ name }) => name));
  const answers = () =>
    links().then(
      (names) => names?.join() === "lo",
      () => false,
    );
  await eventually("the worker is there", answers);
  const hanging = kernel.apply(plan({ op: "nft.apply", namespace: "host", script: "add table inet x\n" }));
  const behind = links();
  const refused = { code: "kernel-hangs", status: 503, hint: expect.stringContaining("dmesg") };
  await expect(hanging).rejects.toMatchObject(refused);
  await expect(behind).rejects.toMatchObject(refused);
  await expect(links()).rejects.toMatchObject(refused);
  expect(kernel.trouble).toContain("does not answer");
  await eventually("it was asked", () => run("ls", directory).includes("entered"));
  writeFileSync(gate, "");
  await eventually("it answers again", answers);
  expect(kernel.trouble).toBeUndefined();
});

it("a plan that goes on is waited for, however long it is", async () => {
  writeFileSync(slow, "");
  const operation = { op: "nft.apply", namespace: "host", script: "add table inet x\n" } as const;
  await kernel.apply(plan(...Array.from({ length: 10 }, () => operation)));
});
