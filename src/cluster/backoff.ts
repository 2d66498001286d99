import { type Clock, systemClock } from "../store/lease-book.ts";

/** Waits `milliseconds`, or until the signal aborts (which is no error: the caller looks at its signal). */
export const pause = (milliseconds: number, signal: AbortSignal, clock: Clock = systemClock): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const end = () => {
      cancel();
      signal.removeEventListener("abort", end);
      resolve();
    };
    const cancel = clock.after(milliseconds, end);
    signal.addEventListener("abort", end, { once: true });
  });

/** Growing times between attempts, with jitter so that many nodes do not come back at the same moment. */
export class Backoff {
  readonly #first: number;
  readonly #most: number;
  readonly #random: () => number;
  #failures = 0;

  /** @param first and `most`: milliseconds of the first and the longest wait; half to all of it is waited */
  constructor(first: number, most: number, random: () => number = Math.random) {
    this.#first = first;
    this.#most = most;
    this.#random = random;
  }

  reset(): void {
    this.#failures = 0;
  }

  /** Milliseconds to wait before the next attempt. */
  next(): number {
    const whole = Math.min(this.#most, this.#first * 2 ** Math.min(this.#failures++, 20));
    return whole / 2 + (this.#random() * whole) / 2;
  }
}
