import type { ClusterNode } from "../cluster/merge-nodes.ts";
import type { Scope } from "../drivers/driver.ts";
import { descriptorLimit } from "../linux/descriptors.ts";
import type { HostProbe } from "../linux/host-probe.ts";
import type { LocalStore } from "../store/sqlite/local-store.ts";
import type { Store } from "../store/store.ts";
import type { Context } from "./context.ts";
import type { Look } from "./doctor/check.ts";
import type { Diagnosis, RepairReport } from "./doctor/diagnosis.ts";
import { descriptorsNeeded } from "./doctor/host.ts";
import { diagnose, repair } from "./doctor.ts";
import { collectGarbage, type GarbageReport, type GarbageRequest } from "./garbage.ts";
import type { Presence } from "./presence.ts";
import { acceptLoss, lossText, noteLoss, type RecordLoss } from "./record-loss.ts";

export interface ExaminerOptions {
  readonly context: Context;
  readonly presence: Presence;
  readonly stores: Readonly<Record<Scope, Store>>;
  readonly probe: HostProbe;
  /** What is wrong with the local store. */
  readonly localStore: Pick<LocalStore, "replaced" | "trouble"> | undefined;
}

/** For whom an examination is, and what the cluster is to this node. */
export interface Occasion {
  readonly nodes: readonly ClusterNode[];
  /** Why the shared store cannot be asked. */
  readonly stale: string | undefined;
  readonly signal?: AbortSignal;
}

/** Records that health speaks of one by one; the rest, dnet doctor does. */
const mostReasons = 20;

/** Knows what is wrong with this node: at once what it has been told, and by examination everything else. */
export class Examiner {
  readonly #options: ExaminerOptions;
  #loss: RecordLoss | undefined;
  #examining: Promise<unknown> = Promise.resolve();

  constructor(options: ExaminerOptions) {
    this.#options = options;
  }

  /** Notes what the start has found of the local store; call it first. */
  async begin(): Promise<void> {
    this.#loss = await noteLoss(this.#options.stores.local, this.#options.localStore?.replaced);
  }

  get #trouble(): string | undefined {
    return this.#options.localStore?.trouble();
  }

  /** True while records may be missing: what none explains is kept. */
  get keepsOrphans(): boolean {
    return this.#loss !== undefined || this.#trouble !== undefined;
  }

  /** Why this node does less than it should. */
  get degraded(): readonly string[] {
    const { state, kernel } = this.#options.context;
    const trouble = this.#trouble;
    const limit = descriptorLimit();
    return [
      ...(this.#loss ? [`${lossText(this.#loss)}; see: dnet doctor`] : []),
      ...(kernel.trouble === undefined ? [] : [kernel.trouble]),
      ...(trouble === undefined ? [] : [`the local store: ${trouble}`]),
      ...(limit < descriptorsNeeded(state.sandboxes.size)
        ? [`it may open ${limit} files only: resolvers of containers may not run`]
        : []),
      ...state.unreadable
        .slice(0, mostReasons)
        .map(({ subject, reason }) => `the record of ${subject} cannot be read: ${reason.slice(0, 200)}`),
    ];
  }

  diagnose(occasion: Occasion): Promise<Diagnosis> {
    return this.#examine(() => diagnose(this.#look(occasion)));
  }

  /** @param reconcile makes the kernel match the records */
  repair(occasion: Occasion, reconcile: () => Promise<void>): Promise<RepairReport> {
    return this.#examine(() => repair(() => this.#look(occasion), reconcile));
  }

  collectGarbage(occasion: Occasion, request: GarbageRequest): Promise<GarbageReport> {
    const { context, presence, stores } = this.#options;
    return collectGarbage({ ...occasion, context, presence, store: stores.global }, request);
  }

  /** One examination at a time: they try things in one place. */
  #examine<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#examining.then(work);
    this.#examining = run.catch(() => undefined);
    return run;
  }

  #look(occasion: Occasion): Look {
    const { context, presence, stores, probe } = this.#options;
    return {
      ...{ ...occasion, context, presence, stores, probe },
      now: Date.now,
      loss: this.#loss,
      trouble: this.#trouble,
      acceptLoss: async () => {
        await acceptLoss(stores.local);
        this.#loss = undefined;
      },
    };
  }
}
