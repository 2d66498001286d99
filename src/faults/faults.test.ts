import { spawnSync } from "node:child_process";
import { expect, it } from "vitest";
import { MemoryStore } from "../store/memory/memory-store.ts";
import { Faults, parseFaults } from "./faults.ts";
import { FaultyStore } from "./faulty-store.ts";

const put = { puts: [{ key: "local/networks/a", value: 1 }] };

it("numbers points while it is armed, and fails at the one that is the target, once", () => {
  const faults = new Faults();
  expect(faults.pass("unarmed")).toBeUndefined();
  faults.arm("count");
  for (const name of ["a", "b"]) expect(faults.pass(name)).toBeUndefined();
  expect(faults.passed).toBe(2);
  faults.arm("fail", 2);
  expect([faults.pass("a"), faults.fired, faults.pass("b"), faults.fired, faults.pass("c")]).toEqual([
    undefined,
    false,
    "fault 2: b",
    true,
    undefined,
  ]);
  faults.disarm();
  expect(faults.pass("d")).toBeUndefined();
  expect(faults.passed).toBe(3);
});

it("shares its numbers with whoever has the same memory", () => {
  const here = new Faults();
  const elsewhere = new Faults(here.shared);
  here.arm("fail", 2);
  expect([here.pass("a"), elsewhere.pass("b")]).toEqual([undefined, "fault 2: b"]);
  expect([here.fired, here.passed]).toEqual([true, 2]);
});

it("store: before the effect it says that nothing was written, after it the answer is lost", async () => {
  const faults = new Faults();
  const store = new MemoryStore();
  const faulty = new FaultyStore(faults, "local", store);
  faults.arm("fail", 1);
  await expect(faulty.transact(put)).rejects.toMatchObject({ code: "store-unavailable" });
  expect(await store.list("")).toEqual([]);
  faults.arm("fail", 2);
  const lost = faulty.transact(put);
  await expect(lost).rejects.not.toHaveProperty("code");
  await expect(lost).rejects.toThrow("fault 2: after store local: put local/networks, delete nothing");
  expect(await store.list("")).toHaveLength(1);
  // What reads has no effect, and one point.
  faults.arm("fail", 2);
  await faulty.get("x");
  await expect(faulty.list("")).rejects.toThrow("fault 2: before store local: list");
});

it("dies by SIGKILL, saying where", () => {
  const script = `
    import { Faults } from "${new URL("./faults.ts", import.meta.url)}";
    const faults = new Faults();
    faults.arm("die", 2);
    faults.pass("one");
    faults.pass("two");
    console.log("alive");`;
  const { signal, stdout, stderr } = spawnSync(process.execPath, ["--input-type=module-typescript", "-e", script], {
    encoding: "utf8",
  });
  expect([signal, stdout, stderr]).toEqual(["SIGKILL", "", "fault 2: two\n"]);
});

it("the environment says fail@N or die@N, and nothing else", () => {
  const faults = parseFaults("fail@2");
  expect([faults.pass("a"), faults.pass("b")]).toEqual([undefined, "fault 2: b"]);
  for (const text of ["", "1", "fail", "fail@0", "die@-1", "die@1.5", "kill@1", "fail@2 "]) {
    expect(() => parseFaults(text)).toThrow(/^invalid DNET_FAULTS: /);
  }
});
