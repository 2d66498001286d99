/** Hands values to one reader in order, as an async iterable; bounded. */
export class EventQueue<T> implements AsyncIterable<T> {
  readonly #most: number;
  #values: T[] = [];
  #ended = false;
  #error: unknown;
  #wake: () => void = () => undefined;

  /** @param most values that may wait */
  constructor(most: number) {
    this.#most = most;
  }

  /** @returns false where the queue is full or has ended: the value is dropped */
  push(value: T): boolean {
    if (this.#ended || this.#values.length >= this.#most) return false;
    this.#values.push(value);
    this.#wake();
    return true;
  }

  /** No more values; the reader gets those that wait, then the end, or the error. */
  end(error?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<T> {
    try {
      for (;;) {
        const values = this.#values;
        this.#values = [];
        yield* values;
        if (this.#values.length > 0) continue;
        if (this.#ended) {
          if (this.#error !== undefined) throw this.#error;
          return;
        }
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      this.end();
    }
  }
}
