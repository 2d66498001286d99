import type { RulesetChange } from "./netlink/nftables.ts";

interface Pending {
  readonly change: RulesetChange;
  /** The last request that was under way when the change was told. */
  readonly after: number;
}

/**
 * Tells changes of the ruleset by others from our own. Each committed batch is told with the process id of its author; the
 * kernel worker's reply says by which processes it changed rules. Either may come first.
 */
export class ForeignChanges {
  readonly #emit: (change: RulesetChange | undefined) => void;
  readonly #own = new Set<number>();
  #pending: Pending[] = [];

  constructor(emit: (change: RulesetChange | undefined) => void) {
    this.#emit = emit;
  }

  /** @param underWay number of the last request that waits for its reply; undefined where none does */
  changed(change: RulesetChange | undefined, underWay: number | undefined): void {
    if (!change) {
      // What got lost may have been our own: no later change is taken for it.
      this.#own.clear();
      this.#emit(undefined);
    } else if (this.#own.delete(change.pid)) {
      // Each process commits one batch; its number may be another's later.
    } else if (underWay === undefined) this.#emit(change);
    else this.#pending.push({ change, after: underWay });
  }

  /** @param request number of the request; replies come in order */
  replied(request: number, batches: readonly number[]): void {
    for (const pid of batches) {
      const at = this.#pending.findIndex(({ change }) => change.pid === pid);
      if (at < 0) this.#own.add(pid);
      else this.#pending.splice(at, 1);
    }
    const told = this.#pending.filter(({ after }) => after <= request);
    this.#pending = this.#pending.filter(({ after }) => after > request);
    for (const { change } of told) this.#emit(change);
  }
}
