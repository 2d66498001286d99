import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { News } from "./news.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** The questions that were put, each with what answers it. */
const asked = () => {
  const answers: PromiseWithResolvers<void>[] = [];
  const news = new News(() => {
    const answer = Promise.withResolvers<void>();
    answers.push(answer);
    return answer.promise;
  });
  const ends = async (wait: Promise<void> | undefined) => {
    let ended = false;
    void wait?.then(() => {
      ended = true;
    });
    await vi.advanceTimersByTimeAsync(0);
    return ended;
  };
  return { answers, news, ends };
};

it("asks at once, and those who come meanwhile share a question that is put after they came", async () => {
  const { answers, news, ends } = asked();
  const first = news.wait();
  expect(answers).toHaveLength(1);
  const others = [news.wait(), news.wait()];
  answers[0]?.resolve();
  expect(await ends(first)).toBe(true);
  expect(await ends(others[0])).toBe(false);
  await vi.advanceTimersByTimeAsync(5);
  expect(answers).toHaveLength(2);
  // This one came after that question.
  const last = news.wait();
  answers[1]?.resolve();
  expect(await Promise.all(others.map(ends))).toEqual([true, true]);
  expect(await ends(last)).toBe(false);
  await vi.advanceTimersByTimeAsync(5);
  expect(answers).toHaveLength(3);
});

it("waits for a store that is slow, or fails, no longer than it takes to be told what is known", async () => {
  const { answers, news, ends } = asked();
  const slow = news.wait();
  await vi.advanceTimersByTimeAsync(249);
  expect(await ends(slow)).toBe(false);
  await vi.advanceTimersByTimeAsync(1);
  expect(await ends(slow)).toBe(true);
  const failing = news.wait();
  answers[1]?.reject(new Error("connection reset"));
  expect(await ends(failing)).toBe(true);
});

it("waits for nothing where there is nobody to ask", () => {
  const news = new News(() => undefined);
  expect(news.wait()).toBeUndefined();
  expect(news.wait()).toBeUndefined();
});
