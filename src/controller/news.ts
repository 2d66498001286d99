/** Milliseconds between two questions to the store: whoever asks meanwhile shares the next. */
const pause = 5;
/** Milliseconds after which whoever waits goes on with what is known. */
const patience = 250;

/**
 * What other hosts have just published: before a resolver says that a name does not exist, it waits here for a round trip to the
 * store, so that a name is known everywhere as soon as the attachment that it came with has returned. Sandboxes that ask for names
 * without end make no more than two hundred questions a second to the store, and each waits for a quarter of a second at most.
 */
export class News {
  readonly #follow: () => Promise<unknown> | undefined;
  /** The question that is put next, where one was put a moment ago. */
  #next: Promise<void> | undefined;
  #asked = Number.NEGATIVE_INFINITY;

  /** @param follow resolves when all that had been written anywhere at the call is known here; undefined where there is nobody to ask */
  constructor(follow: () => Promise<unknown> | undefined) {
    this.#follow = follow;
  }

  /** Never rejects. @returns undefined where there is nobody to ask and nothing to wait for */
  wait(): Promise<void> | undefined {
    if (this.#next) return this.#next;
    const rest = this.#asked + pause - performance.now();
    if (rest <= 0) return this.#ask();
    this.#next = new Promise((resolve) => setTimeout(resolve, rest)).then(() => {
      // Who comes from here on asks after this question was put.
      this.#next = undefined;
      return this.#ask();
    });
    return this.#next;
  }

  #ask(): Promise<void> | undefined {
    const answer = this.#follow();
    if (!answer) return undefined;
    this.#asked = performance.now();
    return atMost(patience, answer);
  }
}

const atMost = async (milliseconds: number, work: Promise<unknown>): Promise<void> => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  await Promise.race([promise, work.catch(() => undefined)]);
  clearTimeout(timer);
};
