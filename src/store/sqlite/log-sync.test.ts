import { expect, it } from "vitest";
import { LogSync } from "./log-sync.ts";

/** Syncs that end when the test says so. */
const held = () => {
  const syncs: { readonly end: () => void; readonly fail: (error: Error) => void }[] = [];
  const log = new LogSync(1, () => new Promise<void>((end, fail) => syncs.push({ end, fail })));
  return { log, syncs };
};

/** Lets what can go on go on. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

it("one sync serves all that was written before it began, and who wrote later waits for the next", async () => {
  const { log, syncs } = held();
  const done: string[] = [];
  const write = (name: string) => {
    log.changed();
    void log.done().then(() => done.push(name));
  };
  write("a");
  write("b");
  write("c");
  expect(syncs).toHaveLength(1);
  syncs[0]?.end();
  await turn();
  expect(done).toEqual(["a"]);
  expect(syncs).toHaveLength(2);
  syncs[1]?.end();
  await turn();
  expect(done).toEqual(["a", "b", "c"]);
  expect(syncs).toHaveLength(2);
  await log.done();
});

it("after a sync that failed nothing is promised any more", async () => {
  const { log, syncs } = held();
  log.changed();
  const waiting = log.done();
  syncs[0]?.fail(new Error("EIO: i/o error, fdatasync"));
  await expect(waiting).rejects.toThrow("the embedded store could not write: the disk failed: EIO");
  expect(log.failure).toBe("the disk failed: EIO: i/o error, fdatasync");
  await log.idle();
});
