import { expect, it } from "vitest";
import { storeSuite } from "../../../test/contract/store-suite.ts";
import { MemoryStore } from "./memory-store.ts";
import { VirtualClock } from "./virtual-clock.ts";

storeSuite("MemoryStore", async () => {
  const clock = new VirtualClock();
  return {
    store: new MemoryStore({ clock }),
    cleanup: async () => undefined,
    elapse: async (milliseconds) => clock.advance(milliseconds),
  };
});

it("fails where a test says so: before the commit nothing is written, after it the answer is lost", async () => {
  const store = new MemoryStore();
  store.fault = (point) => {
    if (point === "before-transact") throw new Error("away");
  };
  await expect(store.transact({ puts: [{ key: "a", value: 1 }] })).rejects.toThrow("away");
  store.fault = (point) => {
    if (point === "after-transact") throw new Error("lost");
  };
  await expect(store.transact({ puts: [{ key: "b", value: 1 }] })).rejects.toThrow("lost");
  expect((await store.list("")).map(({ key }) => key)).toEqual(["b"]);
});
