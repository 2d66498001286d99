/** How much userland forwarding there may be at once, in the whole process: relays serve clients on the loopback only. */
export class RelayLimits {
  readonly #most: number;
  #count = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** @returns false where there are too many */
  take(): boolean {
    if (this.#count >= this.#most) return false;
    this.#count++;
    return true;
  }

  giveBack(): void {
    this.#count--;
  }

  get count(): number {
    return this.#count;
  }
}
