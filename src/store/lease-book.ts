import { randomUUID } from "node:crypto";
import { noService } from "../errors.ts";
import type { Lease } from "./store.ts";

/** What a lease's time is measured with. */
export interface Clock {
  /** Runs `work` after `delay` milliseconds, unless it is cancelled first. @returns what cancels it */
  after(delay: number, work: () => void): () => void;
}

/** Timers of the process, which they do not keep alive. */
export const systemClock: Clock = {
  after(delay, work) {
    const timer = setTimeout(work, delay);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** Leases of a store that lives in this process: when one ends, its entries go. */
export class LeaseBook {
  readonly #clock: Clock;
  readonly #expire: (lease: string) => void;
  readonly #cancel = new Map<string, () => void>();

  /** @param expire removes the entries of a lease */
  constructor(clock: Clock, expire: (lease: string) => void) {
    this.#clock = clock;
    this.#expire = expire;
  }

  has(id: string): boolean {
    return this.#cancel.has(id);
  }

  grant(ttl: number): Lease {
    const id = randomUUID();
    const arm = () =>
      this.#cancel.set(
        id,
        this.#clock.after(ttl, () => this.#end(id)),
      );
    arm();
    return {
      id,
      renew: async () => {
        const cancel = this.#cancel.get(id);
        if (!cancel) throw noService("lease-lost", "the lease has expired");
        cancel();
        arm();
      },
      revoke: async () => this.#end(id),
    };
  }

  #end(id: string): void {
    const cancel = this.#cancel.get(id);
    if (!cancel) return;
    cancel();
    this.#cancel.delete(id);
    this.#expire(id);
  }

  close(): void {
    for (const cancel of this.#cancel.values()) cancel();
    this.#cancel.clear();
  }
}
