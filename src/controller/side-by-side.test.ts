import { expect, it } from "vitest";
import { sideBySide } from "./side-by-side.ts";

it("does all, no more than so many at a time", async () => {
  const done: number[] = [];
  let [now, most] = [0, 0];
  const work = async (n: number) => {
    most = Math.max(most, ++now);
    await new Promise((resolve) => setImmediate(resolve));
    now--;
    done.push(n);
  };
  await sideBySide(new Set(Array(50).keys()), work, 4);
  expect(done.sort((a, b) => a - b)).toEqual([...Array(50).keys()]);
  expect(most).toBe(4);
  await sideBySide([], work);
});

it("begins nothing after a failure, and throws it when what was under way has ended", async () => {
  const ended: number[] = [];
  const work = async (n: number) => {
    await new Promise((resolve) => setImmediate(resolve));
    if (n === 1) throw new Error("no");
    ended.push(n);
  };
  await expect(sideBySide(Array(50).keys(), work, 3)).rejects.toThrow("no");
  expect(ended.length).toBeLessThan(6);
  expect(ended).toContain(2);
});
