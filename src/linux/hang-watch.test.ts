import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { HangWatch } from "./hang-watch.ts";

let hung: number;
let watch: HangWatch;
beforeEach(() => {
  vi.useFakeTimers();
  hung = 0;
  watch = new HangWatch(10_000, () => hung++);
});
afterEach(() => vi.useRealTimers());

it("says once that nothing was heard for the limit, and a little more", () => {
  watch.asked();
  vi.advanceTimersByTime(10_400);
  expect([hung, watch.hangs]).toEqual([0, false]);
  watch.asked();
  vi.advanceTimersByTime(200);
  expect([hung, watch.hangs]).toEqual([1, true]);
  watch.asked();
  vi.advanceTimersByTime(60_000);
  expect(hung).toBe(1);
  watch.answered(false);
  expect(watch.hangs).toBe(false);
});

it("counts from the last answer while more is waited for, and not at all when nothing is", () => {
  watch.asked();
  for (let n = 0; n < 5; n++) {
    vi.advanceTimersByTime(9_000);
    watch.answered(true);
  }
  watch.answered(false);
  vi.advanceTimersByTime(60_000);
  expect([hung, vi.getTimerCount()]).toEqual([0, 0]);
});
