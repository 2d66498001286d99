/** Milliseconds for an answer that is there already: a process that was stopped for a while hears of the time first. */
const grace = 500;

/** Notices that somebody who is waited for says nothing any more: a call into the kernel may never come back, and takes its thread with it. */
export class HangWatch {
  readonly #limit: number;
  readonly #onHang: () => void;
  #timer: NodeJS.Timeout | undefined;
  #hangs = false;

  /** @param limit milliseconds without any answer */
  constructor(limit: number, onHang: () => void) {
    this.#limit = limit;
    this.#onHang = onHang;
  }

  /** True from the end of the limit until the next answer. */
  get hangs(): boolean {
    return this.#hangs;
  }

  /** Something was asked. */
  asked(): void {
    if (this.#timer !== undefined || this.#hangs) return;
    this.#after(this.#limit, () =>
      this.#after(grace, () => {
        this.#timer = undefined;
        this.#hangs = true;
        this.#onHang();
      }),
    );
  }

  #after(milliseconds: number, work: () => void): void {
    this.#timer = setTimeout(work, milliseconds).unref();
  }

  /** @param more something else is still waited for */
  answered(more: boolean): void {
    this.#hangs = false;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (more) this.asked();
  }
}
