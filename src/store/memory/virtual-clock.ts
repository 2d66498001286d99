import type { Clock } from "../lease-book.ts";

/** Time that passes only when it is told to. */
export class VirtualClock implements Clock {
  readonly #due = new Map<symbol, { readonly at: number; readonly work: () => void }>();
  #now = 0;

  after(delay: number, work: () => void): () => void {
    const id = Symbol();
    this.#due.set(id, { at: this.#now + delay, work });
    return () => this.#due.delete(id);
  }

  /** Lets milliseconds pass and runs what falls due, in order of time. */
  advance(milliseconds: number): void {
    this.#now += milliseconds;
    const due = [...this.#due].filter(([, { at }]) => at <= this.#now).sort(([, a], [, b]) => a.at - b.at);
    for (const [id, { work }] of due) if (this.#due.delete(id)) work();
  }
}
