import { readlinkSync } from "node:fs";
import type { RulesetChange } from "./netlink/nftables.ts";

/** proc_ns.h: PROC_PID_INIT_INO, the inode of the machine's first pid namespace. */
const firstPidNamespace = "pid:[4026531836]";

/** Whether process ids here are those that the kernel tells: it names authors by their id in the machine's first pid namespace. */
export const knowsAuthors = (): boolean => {
  try {
    return readlinkSync("/proc/self/ns/pid") === firstPidNamespace;
  } catch {
    return true;
  }
};

/** Milliseconds that a batch of ours may be told after the reply that knows of it, where it cannot be told by its author. */
const late = 1_000;

interface Pending {
  readonly change: RulesetChange;
  /** The last request that was under way when the change was told. */
  readonly after: number;
}

/**
 * Tells changes of the ruleset by others from our own. Each committed batch is told with the process id of its author; the
 * kernel worker's reply says by which processes it changed rules. Either may come first. In a container the kernel's ids are
 * not ours: there as many batches of `nft` as we committed, told meanwhile or right after, are taken for ours.
 */
export class ForeignChanges {
  readonly #emit: (change: RulesetChange | undefined) => void;
  readonly #own = new Set<number>();
  readonly #byAuthor: boolean;
  /** Where authors are not known: until when (ms) each of our batches that was not told yet may be. */
  #awaited: number[] = [];
  #pending: Pending[] = [];

  /** @param byAuthor the kernel's process ids are ours */
  constructor(emit: (change: RulesetChange | undefined) => void, byAuthor = true) {
    this.#emit = emit;
    this.#byAuthor = byAuthor;
  }

  /** @param underWay number of the last request that waits for its reply; undefined where none does */
  changed(change: RulesetChange | undefined, underWay: number | undefined): void {
    if (!change) {
      // What got lost may have been our own: no later change is taken for it.
      this.#own.clear();
      this.#awaited = [];
      this.#emit(undefined);
    } else if (this.#byAuthor ? this.#own.delete(change.pid) : this.#isAwaited(change)) {
      // Each process commits one batch; its number may be another's later.
    } else if (underWay === undefined) this.#emit(change);
    else this.#pending.push({ change, after: underWay });
  }

  #isAwaited(change: RulesetChange): boolean {
    const now = performance.now();
    this.#awaited = this.#awaited.filter((until) => until > now);
    return isNft(change) && this.#awaited.shift() !== undefined;
  }

  /** @param request number of the request; replies come in order */
  replied(request: number, batches: readonly number[]): void {
    for (const pid of batches) {
      const at = this.#pending.findIndex(({ change }) => (this.#byAuthor ? change.pid === pid : isNft(change)));
      if (at >= 0) this.#pending.splice(at, 1);
      else if (this.#byAuthor) this.#own.add(pid);
      else this.#awaited.push(performance.now() + late);
    }
    const told = this.#pending.filter(({ after }) => after <= request);
    this.#pending = this.#pending.filter(({ after }) => after > request);
    for (const { change } of told) this.#emit(change);
  }
}

const isNft = ({ program }: RulesetChange): boolean => program === "nft";
