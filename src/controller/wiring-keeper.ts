import { errorText } from "../errors.ts";
import type { LinkLoss } from "../linux/netlink/link-loss.ts";
import { type Context, idOfMark, isHere, markOf } from "./context.ts";
import { removeNetworkRemains } from "./network-remains.ts";
import { removeOrphanLinks, removeOrphanSandboxes } from "./orphans.ts";
import { periodically } from "./periodically.ts";
import type { Presence } from "./presence.ts";
import { type Restoration, restoreNetwork, restoreSandbox } from "./restore.ts";
import type { SandboxManager } from "./sandbox-manager.ts";
import type { WayOut } from "./way-out.ts";

/** Milliseconds from a loss that the kernel tells of to the look at it: what is done by hand comes in several steps. */
const settle = 100;
/** Milliseconds between two such looks: another program may take things away without end. */
const pause = 1_000;

/**
 * Keeps bridges, and how sandboxes are wired, as the records say while the daemon runs: looks from time to time, and at once where the
 * kernel tells that a link of ours or an address of a bridge went. What networks that span hosts have is `PresenceKeeper`'s.
 */
export class WiringKeeper {
  readonly #context: Context;
  readonly #presence: Presence;
  readonly #wayOut: WayOut;
  readonly #restoration: Restoration;
  /** False while records may be missing: what none explains may still be wanted. */
  readonly #removesOrphans: () => boolean;
  readonly #every: number;
  /** Networks and sandboxes to look at soon. */
  readonly #due = new Set<string>();
  #stopLooking: (() => Promise<void>) | undefined;
  #soon: NodeJS.Timeout | undefined;
  #notBefore = 0;
  #stopWatching: (() => void) | undefined;
  #looking: Promise<void> = Promise.resolve();
  #closed = false;

  /** @param parts.every milliseconds between two looks at everything, give or take a fifth; 0: nothing is looked at */
  constructor(
    context: Context,
    parts: {
      readonly presence: Presence;
      readonly sandboxes: SandboxManager;
      readonly wayOut: WayOut;
      readonly removesOrphans: () => boolean;
      readonly every: number;
    },
  ) {
    this.#context = context;
    this.#presence = parts.presence;
    this.#wayOut = parts.wayOut;
    this.#restoration = { context, sandboxes: parts.sandboxes, thorough: false };
    this.#removesOrphans = parts.removesOrphans;
    this.#every = parts.every;
  }

  async start(): Promise<void> {
    const { kernel, log } = this.#context;
    if (this.#every === 0) return;
    this.#stopLooking = periodically(this.#every, () => this.#look(() => this.#lookAtAll()));
    try {
      this.#stopWatching = await kernel.watchLinks(markOf(this.#context, ""), (loss) => this.#lost(loss));
    } catch (error) {
      log("warning", `links that others remove are not put back before the next look: ${errorText(error)}`);
    }
  }

  /** One at a time; a look that fails is followed by the next. */
  #look(work: () => Promise<void>): Promise<void> {
    this.#looking = this.#looking.then(work).catch((error: unknown) => {
      this.#context.log("error", `could not look after links and sandboxes: ${errorText(error)}`);
    });
    return this.#looking;
  }

  async #lookAtAll(): Promise<void> {
    const { state } = this.#context;
    if (!this.#closed && this.#removesOrphans()) {
      await removeOrphanLinks(this.#context);
      await removeNetworkRemains(this.#context, this.#presence);
      await removeOrphanSandboxes(this.#context);
    }
    await this.#restore([...state.networks.keys()], [...state.sandboxes.keys()]);
    // An operation that failed half-way may have left a sandbox without one, or with one too many.
    if (!this.#closed) await this.#wayOut.adjustAll();
  }

  /** One after the other: operations have their turn in between. */
  async #restore(networks: Iterable<string>, sandboxes: Iterable<string>): Promise<void> {
    const { state } = this.#context;
    for (const id of networks) {
      const network = state.networks.get(id);
      if (network && !this.#closed) await restoreNetwork(this.#restoration, network);
    }
    for (const id of sandboxes) {
      const sandbox = state.sandboxes.get(id);
      if (sandbox && !this.#closed) await restoreSandbox(this.#restoration, sandbox);
    }
  }

  /** Our own changes are told of as well: what a record that is still there wants must not go, whoever took it. */
  #lost(loss: LinkLoss | undefined): void {
    const { state } = this.#context;
    if (!loss) for (const id of state.networks.keys()) this.#due.add(id);
    else if ("address" in loss) {
      for (const { id, subnets } of state.networks.values())
        if (subnets.some(({ gateway }) => gateway === loss.address)) this.#due.add(id);
    } else {
      const id = idOfMark(this.#context, loss.mark) ?? "";
      const endpoint = state.endpoints.get(id);
      if (state.networks.has(id)) this.#due.add(id);
      else if (endpoint?.sandbox && isHere(this.#context, endpoint)) this.#due.add(endpoint.sandbox.id);
    }
    if (this.#due.size === 0 || this.#closed || this.#soon) return;
    const wait = Math.max(settle, this.#notBefore - performance.now());
    this.#soon = setTimeout(() => {
      this.#soon = undefined;
      void this.#look(() => this.#lookAtDue());
    }, wait).unref();
  }

  async #lookAtDue(): Promise<void> {
    const { state } = this.#context;
    const due = [...this.#due];
    this.#due.clear();
    this.#notBefore = performance.now() + pause;
    const networks = due.filter((id) => state.networks.has(id));
    // With a bridge goes what was plugged into it.
    const plugged = networks.flatMap((id) => state.endpointsOf(id).flatMap(({ sandbox }) => sandbox?.id ?? []));
    await this.#restore(networks, new Set([...due.filter((id) => state.sandboxes.has(id)), ...plugged]));
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#soon);
    this.#stopWatching?.();
    await this.#stopLooking?.();
    await this.#looking;
  }
}
