import { errorText } from "../errors.ts";
import type { AttachmentManager } from "./attachment-manager.ts";
import type { Context } from "./context.ts";
import type { EndpointManager } from "./endpoint-manager.ts";
import type { AttachOptions } from "./model.ts";
import type { Presence } from "./presence.ts";
import type { SandboxRecord } from "./records.ts";
import type { SandboxManager } from "./sandbox-manager.ts";
import type { WayOut } from "./way-out.ts";

/** Endpoints into sandboxes and out of them, with what follows from it: the sandbox's way out, and what this host knows of peers. */
export class Membership {
  readonly #context: Context;
  readonly #attachments: AttachmentManager;
  readonly #endpoints: EndpointManager;
  readonly #sandboxes: SandboxManager;
  readonly #presence: Presence;
  readonly #wayOut: WayOut;

  constructor(
    context: Context,
    parts: {
      readonly attachments: AttachmentManager;
      readonly endpoints: EndpointManager;
      readonly sandboxes: SandboxManager;
      readonly presence: Presence;
      readonly wayOut: WayOut;
    },
  ) {
    this.#context = context;
    this.#attachments = parts.attachments;
    this.#endpoints = parts.endpoints;
    this.#sandboxes = parts.sandboxes;
    this.#presence = parts.presence;
    this.#wayOut = parts.wayOut;
  }

  /** An attachment whose way out cannot be made is taken back. */
  async attach(
    endpointId: string,
    sandboxId: string,
    options: AttachOptions,
    signal?: AbortSignal,
  ): Promise<SandboxRecord> {
    const sandbox = await this.#attachments.attach(endpointId, sandboxId, options, signal);
    try {
      await this.#wayOut.adjust(sandboxId);
    } catch (error) {
      await this.#undoAttach(endpointId, sandboxId);
      await this.#restoreWayOut(sandboxId);
      throw error;
    }
    return sandbox;
  }

  async #undoAttach(endpointId: string, sandboxId: string): Promise<void> {
    try {
      await this.#attachments.detach(endpointId, sandboxId);
    } catch (error) {
      // Somebody else may have been faster; why it is undone is what the caller must hear.
      if (this.#context.state.endpoints.get(endpointId)?.sandbox?.id === sandboxId) throw error;
    }
  }

  detach(endpointId: string, sandboxId: string, signal?: AbortSignal): Promise<void> {
    return this.#orRestoreWayOut(sandboxId, async () => {
      await this.#attachments.detach(endpointId, sandboxId, signal);
      await this.#wayOut.adjust(sandboxId);
    });
  }

  deleteEndpoint(id: string, force: boolean, signal?: AbortSignal): Promise<void> {
    const sandbox = this.#context.state.endpoints.get(id)?.sandbox?.id;
    return this.#orRestoreWayOut(sandbox, async () => {
      const before = await this.#endpoints.delete(id, force, signal);
      if (before.sandbox === undefined) return;
      // The watch tells of what others change only.
      await this.#presence.follow({ networks: [], endpoints: [{ before }] });
      await this.#wayOut.adjust(before.sandbox.id);
    });
  }

  deleteSandbox(id: string): Promise<void> {
    return this.#orRestoreWayOut(id, () => this.#sandboxes.delete(id));
  }

  /** An endpoint may be out of its sandbox, and what it had in the kernel not: the way out follows from the records. */
  async #orRestoreWayOut(sandboxId: string | undefined, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (sandboxId !== undefined) await this.#restoreWayOut(sandboxId);
      throw error;
    }
  }

  /** After a failure between two networks of a sandbox: a way out may have gone for nothing, or be superfluous. */
  async #restoreWayOut(sandboxId: string): Promise<void> {
    try {
      await this.#wayOut.adjust(sandboxId);
    } catch (error) {
      // What failed first is what the caller must hear.
      this.#context.log("error", `could not restore the way out of sandbox ${sandboxId}: ${errorText(error)}`);
    }
  }
}
