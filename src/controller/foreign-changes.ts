import { errorText } from "../errors.ts";
import type { AttachmentManager } from "./attachment-manager.ts";
import { type Context, isHere, namespaceOf } from "./context.ts";
import { Presence } from "./presence.ts";
import type { EndpointRecord } from "./records.ts";
import type { RecordChanges } from "./state.ts";
import type { WayOut } from "./way-out.ts";

type Change = RecordChanges["endpoints"][number];

/** What this host does when another node changed shared records: names and peers follow, and what was taken from it is unwired. */
export class ForeignChanges {
  readonly #context: Context;
  readonly #attachments: AttachmentManager;
  readonly #presence: Presence;
  readonly #wayOut: WayOut;

  constructor(context: Context, parts: { attachments: AttachmentManager; presence: Presence; wayOut: WayOut }) {
    this.#context = context;
    this.#attachments = parts.attachments;
    this.#presence = parts.presence;
    this.#wayOut = parts.wayOut;
  }

  async apply(changes: RecordChanges): Promise<void> {
    // A record that a newer node has replaced by one that cannot be read here: what it has here stays.
    const endpoints = changes.endpoints.filter(
      ({ before, after }) => after || !this.#context.state.isUnreadable(before?.id ?? ""),
    );
    await this.#presence.follow({ ...changes, endpoints });
    // Names come first: what is done about this host's own attachments waits for locks, and may fail.
    const own: Change[] = [];
    for (const change of endpoints) {
      const { before, after } = change;
      const moved = after?.sandbox?.id !== before?.sandbox?.id;
      if (moved && [before, after].some((one) => one && isHere(this.#context, one))) own.push(change);
      else await this.#context.naming.changed(after, before);
    }
    for (const change of own) await this.#attempt(change);
  }

  /** One attachment's failure stops no other. */
  async #attempt({ before, after }: Change): Promise<void> {
    try {
      if (before && isHere(this.#context, before)) await this.#lost(before, after);
      else if (after) await this.#gained(after);
    } catch (error) {
      const name = (after ?? before)?.name;
      this.#context.log("error", `could not follow what others changed of endpoint ${name}: ${errorText(error)}`);
    }
  }

  /**
   * An attachment to a sandbox of this host that the watch tells of: its answer is under way, and it is wired when the locks are free;
   * or its answer got lost, and nobody has wired it. Plans may be repeated.
   */
  async #gained({ id, network, sandbox: claim }: EndpointRecord): Promise<void> {
    const { kernel, state, locks } = this.#context;
    const sandboxId = claim?.id ?? "";
    await locks.hold([`endpoint:${id}`, `sandbox:${sandboxId}`, Presence.lock(network)], async () => {
      const now = state.endpoints.get(id);
      const sandbox = state.sandboxes.get(sandboxId);
      if (now?.sandbox?.id !== sandboxId || !sandbox) return;
      // After a reboot the store tells a start of attachments to sandboxes that are gone, whose records it removes.
      if (await kernel.isNamespace(namespaceOf(this.#context, sandbox))) await this.#attachments.rewire(now, sandbox);
    });
    await this.#wayOut.adjust(sandboxId);
  }

  /** A forced unpublish on another node: the endpoint's interface must not stay in the sandbox. */
  async #lost(before: EndpointRecord, after: EndpointRecord | undefined): Promise<void> {
    const { state, locks, log, naming } = this.#context;
    const id = before.sandbox?.id ?? "";
    await locks.hold([`endpoint:${before.id}`, `sandbox:${id}`, Presence.lock(before.network)], async () => {
      const now = state.endpoints.get(before.id);
      if (now?.sandbox?.id === id || this.#attachments.isUnwired(before)) return;
      const sandbox = state.sandboxes.get(id);
      log("info", `endpoint ${before.name} was taken from container ${before.sandbox?.container} by another node`);
      if (sandbox) await this.#attachments.unwire(before, after, sandbox);
      else await naming.changed(after, before);
    });
    await this.#wayOut.adjust(id);
  }
}
