/** Mutual exclusion per object: work on one key runs in order, work on different keys side by side. */
export class Locks {
  readonly #tails = new Map<string, Promise<unknown>>();

  /** Resolves when nobody holds a lock, or after `deadline` milliseconds. */
  async idle(deadline: number): Promise<void> {
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, deadline);
    const all = async () => {
      while (this.#tails.size > 0) await Promise.all(this.#tails.values());
    };
    await Promise.race([all(), late]);
    clearTimeout(timer);
  }

  /** Runs `work` when every earlier holder of any of the keys has finished; keys are taken in order, so no two can deadlock. */
  async hold<T>(keys: readonly string[], work: () => Promise<T>): Promise<T> {
    const [first, ...rest] = [...new Set(keys)].sort();
    if (first === undefined) return work();
    const before = this.#tails.get(first) ?? Promise.resolve();
    const run = before.then(() => this.hold(rest, work));
    const tail = run.catch(() => undefined);
    this.#tails.set(first, tail);
    try {
      return await run;
    } finally {
      if (this.#tails.get(first) === tail) this.#tails.delete(first);
    }
  }
}
