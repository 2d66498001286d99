import { errorText } from "../../errors.ts";
import type { Clock } from "../../store/lease-book.ts";
import { Backoff } from "../backoff.ts";
import type { Log } from "../log.ts";
import type { AnnouncementEvent } from "./messages.ts";

export interface PullsOptions {
  /** Asks a node; fails where it has to be asked again. */
  readonly pull: (node: string, signal: AbortSignal) => Promise<void>;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
}

interface Pull {
  state: "waiting" | "running" | "resting";
  /** Wanted again while it ran or rested. */
  again: boolean;
  cancel: () => void;
  /** Events that came while it ran. */
  readonly noted: AnnouncementEvent[];
  readonly backoff: Backoff;
}

/** Nodes asked at the same time. */
const lanes = 4;
/** Milliseconds between two questions to one node, whatever is heard of it. */
const rest = 1_000;
const longest = 30_000;
const maxNoted = 256;

/** Which nodes have to be asked, when: a few at a time, none too often, again after a failure. */
export class Pulls {
  readonly #options: PullsOptions;
  readonly #pulls = new Map<string, Pull>();
  readonly #abort = new AbortController();
  #running = 0;

  constructor(options: PullsOptions) {
    this.#options = options;
  }

  /** @param delay milliseconds from now */
  want(node: string, delay: number): void {
    if (this.#abort.signal.aborted) return;
    const pull = this.#pulls.get(node);
    if (pull) {
      if (pull.state !== "waiting") pull.again = true;
      return;
    }
    const backoff = new Backoff(rest, longest, this.#options.random);
    const fresh: Pull = { state: "waiting", again: false, cancel: () => undefined, noted: [], backoff };
    this.#pulls.set(node, fresh);
    this.#arm(node, fresh, delay);
  }

  /** An event that a question under way may not show the effect of. */
  note(event: AnnouncementEvent): void {
    const pull = this.#pulls.get(event.node);
    if (pull?.state === "running" && pull.noted.length < maxNoted) pull.noted.push(event);
  }

  noted(node: string): readonly AnnouncementEvent[] {
    return this.#pulls.get(node)?.noted.splice(0) ?? [];
  }

  /** What is under way comes to nothing. */
  close(): void {
    this.#abort.abort();
    for (const { cancel } of this.#pulls.values()) cancel();
  }

  #arm(node: string, pull: Pull, delay: number): void {
    pull.state = "waiting";
    pull.cancel = this.#options.clock.after(delay, () => {
      if (this.#running >= lanes) return this.#arm(node, pull, rest / 4);
      this.#running++;
      void this.#run(node, pull).finally(() => this.#running--);
    });
  }

  async #run(node: string, pull: Pull): Promise<void> {
    const { clock, log } = this.#options;
    pull.state = "running";
    pull.again = false;
    pull.noted.length = 0;
    try {
      await this.#options.pull(node, this.#abort.signal);
      pull.backoff.reset();
    } catch (error) {
      log("debug", `announcements: ${errorText(error)}`);
      pull.again = true;
    }
    if (this.#abort.signal.aborted) return;
    pull.state = "resting";
    pull.cancel = clock.after(pull.backoff.next(), () => {
      if (pull.again) this.#arm(node, pull, 0);
      else this.#pulls.delete(node);
    });
  }
}
