import type { Random } from "./random.ts";

/** A client's life: one step after the other until the signal. */
export const actAtRandom = async (random: Random, step: () => Promise<unknown>, signal: AbortSignal): Promise<void> => {
  while (!signal.aborted) {
    await step();
    // A node that is down answers at once; that is not what the time is for.
    await new Promise((resolve) => setTimeout(resolve, random.below(40)));
  }
};
