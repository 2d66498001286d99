import type { Lab } from "../../src/lab/lab.ts";
import type { Random } from "./random.ts";

const kinds = { "store-restart": 2, "node-kill": 3, partition: 4 } as const;
export type Fault = keyof typeof kinds;

/** Milliseconds between two faults, and that one lasts, at most. */
const pause = 2_500;
const longest = 4_000;

/** Breaks one thing after the other, and mends it. */
export class Faults {
  readonly counts: Record<Fault, number> = { "store-restart": 0, "node-kill": 0, partition: 0 };
  readonly #lab: Lab;
  readonly #hosts: readonly string[];
  readonly #random: Random;

  constructor(lab: Lab, hosts: readonly string[], random: Random) {
    this.#lab = lab;
    this.#hosts = hosts;
    this.#random = random;
  }

  async run(signal: AbortSignal): Promise<void> {
    // Each kind once, whatever the dice say.
    const first: Fault[] = ["partition", "node-kill", "store-restart"];
    while (!signal.aborted) {
      await this.#wait(pause, signal);
      if (signal.aborted) return;
      const kind = first.shift() ?? this.#random.weighted(kinds);
      await this.#break(kind, signal);
      this.counts[kind]++;
    }
  }

  async #break(kind: Fault, signal: AbortSignal): Promise<void> {
    const host = this.#random.pick(this.#hosts) ?? "";
    switch (kind) {
      case "store-restart":
        await this.#lab.store.stop();
        await this.#wait(longest, signal);
        await this.#lab.store.start();
        break;
      case "node-kill":
        await this.#lab.host(host).kill();
        await this.#wait(longest / 2, signal);
        await this.#lab.host(host).start();
        break;
      case "partition": {
        // From the store, from another node, or from everybody.
        const others = this.#hosts.filter((other) => other !== host);
        const from = this.#random.pick([["store"], [this.#random.pick(others) ?? "store"], [...others, "store"]]) ?? [];
        await this.#lab.partition(host, from);
        await this.#wait(longest, signal);
        await this.#lab.heal();
      }
    }
  }

  /** Some of the given time, until the signal. */
  #wait(most: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, this.#random.next() * most);
      signal.addEventListener("abort", done);
    });
  }
}
