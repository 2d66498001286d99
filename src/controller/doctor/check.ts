import type { ClusterNode } from "../../cluster/merge-nodes.ts";
import type { Scope } from "../../drivers/driver.ts";
import type { HostProbe } from "../../linux/host-probe.ts";
import type { Store } from "../../store/store.ts";
import type { Context } from "../context.ts";
import type { Presence } from "../presence.ts";
import type { RecordLoss } from "../record-loss.ts";

/** One difference between what should be and what is. */
export interface Finding {
  /** Stable, for scripts: `no-namespace`. */
  readonly code: string;
  /** What it is about, as people call it: `container c1`. */
  readonly subject: string;
  readonly what: string;
  readonly expected: string;
  /** What does not work because of it. */
  readonly consequence: string;
  /** What to do about it by hand, or which command does it. */
  readonly remedy: string;
  /** `dnet doctor --repair` removes it. */
  readonly repairable: boolean;
}

/** What a check may look at. Checks change nothing; `repair` does. */
export interface Look {
  readonly context: Context;
  readonly presence: Presence;
  readonly stores: Readonly<Record<Scope, Store>>;
  /** Nodes as this one sees them, itself included. */
  readonly nodes: readonly ClusterNode[];
  /** Why the shared store cannot be asked; undefined where it can, or where there is none. */
  readonly stale: string | undefined;
  readonly probe: HostProbe;
  /** Records of this host that were lost with its store. */
  readonly loss: RecordLoss | undefined;
  /** Why the local store cannot be written. */
  readonly trouble: string | undefined;
  /** Ends the time in which orphans are kept for the sake of what was lost. */
  acceptLoss(): Promise<void>;
  readonly now: () => number;
  readonly signal?: AbortSignal;
}

/** Thrown by a check that could not look: that is no difference, and not nothing either. */
export class Unlooked extends Error {}

export interface Check {
  readonly name: string;
  /** @throws Unlooked, or whatever the kernel and the stores throw: the check counts as not made then */
  run(look: Look): Promise<readonly Finding[]>;
  /**
   * Removes what only this check knows how to remove; the reconcile that follows does the rest.
   * @returns what was done, one line each
   */
  repair?(look: Look): Promise<readonly string[]>;
}

/** How many findings of one kind about one object are told apart; a network may have entries for ten thousand endpoints. */
export const findingsShown = 20;

export const repairCommand = "dnet doctor --repair";
