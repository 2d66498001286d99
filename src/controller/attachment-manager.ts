import { isDeepStrictEqual } from "node:util";
import { interfacePrefixOption } from "../drivers/options.ts";
import { errorText, forbidden, internal } from "../errors.ts";
import { type Plan, plan } from "../linux/plan.ts";
import { type Context, isHere, requireEndpoint, requireNetwork, requireSandbox } from "./context.ts";
import type { AttachOptions } from "./model.ts";
import { checkServiceName } from "./names.ts";
import { applyWithPorts, joinPorts, takeDown } from "./port-wiring.ts";
import { Presence } from "./presence.ts";
import { type EndpointRecord, keys, type NetworkRecord, type SandboxRecord } from "./records.ts";
import { attachmentOf, attachPlan, defaultRoutePlan, detachPlan } from "./wiring.ts";

/** How often a claim is decided anew when another node changed the endpoint first. */
const attempts = 16;

/** Endpoints into sandboxes and out of them: a claim in the store that one sandbox of one node can have, then the wiring. */
export class AttachmentManager {
  readonly #context: Context;
  readonly #presence: Presence;
  /** Records of endpoints that this host took out of its sandboxes by itself: the watch may tell of it as of somebody else's change. */
  readonly #unwired = new WeakSet<EndpointRecord>();

  constructor(context: Context, presence: Presence) {
    this.#context = context;
    this.#presence = presence;
  }

  async attach(
    endpointId: string,
    sandboxId: string,
    options: AttachOptions = {},
    signal?: AbortSignal,
  ): Promise<SandboxRecord> {
    const aliases = (options.aliases ?? []).map(checkAlias);
    const priority = options.gatewayPriority ?? 0;
    return this.#context.locks.hold(this.#locks(endpointId, sandboxId), async () => {
      const sandbox = requireSandbox(this.#context, sandboxId);
      const { before, claimed, network, ports } = await this.#claim(endpointId, sandbox, aliases, priority, signal);
      const others = this.#context.state.endpointsIn(sandboxId).filter(({ id }) => id !== endpointId);
      try {
        const wiring = attachPlan(this.#context, claimed, others, sandbox);
        const apply = async (led: Plan): Promise<void> => {
          await this.#presence.prepare(network, signal);
          await this.#context.kernel.apply(plan(wiring, led), signal);
        };
        await applyWithPorts(this.#context, ports, apply, this.#presence.isSpanning([network]));
        this.#presence.joined(network);
      } catch (error) {
        await ports.cancel();
        if (await this.#replace(network, claimed, before)) await this.#giveUp(network);
        throw error;
      }
      await ports.settle();
      await this.#context.naming.changed(claimed, before);
      this.#context.conditions.attached(() => this.#presence.namespaces());
      return sandbox;
    });
  }

  /** Makes the kernel match a claim that is recorded, whatever is there already; the caller holds the locks. */
  async rewire(claimed: EndpointRecord, sandbox: SandboxRecord): Promise<void> {
    const network = requireNetwork(this.#context, claimed.network);
    const wiring = plan(
      attachmentOf(this.#context, claimed, sandbox).attach,
      defaultRoutePlan(this.#context, this.#context.state.endpointsIn(sandbox.id), sandbox),
    );
    if (this.#presence.isSpanning([network])) {
      await this.#context.firewall.exclusive(() => this.#presence.make(network));
    }
    await this.#context.kernel.apply(wiring);
    this.#presence.joined(network);
    await this.#context.naming.changed(claimed, undefined);
  }

  /** After a join that failed: what the network got here for it goes. */
  async #giveUp(network: NetworkRecord): Promise<void> {
    try {
      await this.#presence.giveUp(network);
    } catch (error) {
      this.#context.log("error", `could not remove network ${network.name} from this host: ${errorText(error)}`);
    }
  }

  /**
   * Takes the endpoint for the sandbox, in the store: nobody else has it then, on this node or another. The ports that come with it
   * are held, and recorded, before: what is attached has its ports, also where the process dies in between.
   */
  async #claim(
    endpointId: string,
    sandbox: SandboxRecord,
    aliases: readonly string[],
    priority: number,
    signal?: AbortSignal,
  ) {
    const { instance, host, state } = this.#context;
    for (let attempt = 0; attempt < attempts; attempt++) {
      const before = requireEndpoint(this.#context, endpointId);
      const network = requireNetwork(this.#context, before.network);
      this.#refuse(before, network, sandbox);
      const others = state.endpointsIn(sandbox.id);
      const claimed: EndpointRecord = {
        ...before,
        sandbox: {
          id: sandbox.id,
          node: instance,
          ...(network.scope === "global" && host && { vtep: host.vtep }),
          container: sandbox.container,
          interface: freeInterface(others, interfacePrefixOption(network.options)),
          order: Math.max(-1, ...others.map((other) => other.sandbox?.order ?? 0)) + 1,
          aliases: [...aliases],
          ...(priority !== 0 && { priority }),
        },
      };
      // What cannot be planned is refused before anything is written.
      attachPlan(this.#context, claimed, others, sandbox);
      const ports = await joinPorts(this.#context, [...others, claimed], sandbox, signal);
      let taken = false;
      try {
        taken = await this.#replace(network, before, claimed, signal);
      } finally {
        if (!taken) await ports.cancel();
      }
      if (taken) return { before, claimed, network, ports };
    }
    throw internal("contention", "the service could not be attached: other nodes change it too often", {
      hint: "try again",
    });
  }

  #refuse(endpoint: EndpointRecord, network: NetworkRecord, sandbox: SandboxRecord): void {
    if (endpoint.sandbox) {
      const { container, node } = endpoint.sandbox;
      const where = isHere(this.#context, endpoint) ? "" : ` on node ${this.#context.nodeName(node)}`;
      throw forbidden("endpoint-attached", "another container is attached to the same network endpoint", {
        hint: `it is container ${container}${where}; publish another service for this one`,
      });
    }
    if (this.#context.state.endpointsIn(sandbox.id).some((other) => other.network === network.id)) return;
    if (sandbox.host !== (network.driver === "host")) {
      throw forbidden(
        "host-sandbox",
        sandbox.host
          ? "container sharing the host's network stack can join only the host network"
          : "only a container that shares the host's network stack can join the host network",
      );
    }
  }

  /** Locks of whoever changes an endpoint's place in a sandbox of this host. */
  #locks(endpointId: string, sandboxId: string): readonly string[] {
    const { network } = requireEndpoint(this.#context, endpointId);
    return [`endpoint:${endpointId}`, `sandbox:${sandboxId}`, Presence.lock(network)];
  }

  async detach(endpointId: string, sandboxId: string, signal?: AbortSignal): Promise<void> {
    const locks = this.#locks(endpointId, sandboxId);
    requireSandbox(this.#context, sandboxId);
    await this.#context.locks.hold(locks, async () => {
      const sandbox = requireSandbox(this.#context, sandboxId);
      for (let attempt = 0; attempt < attempts; attempt++) {
        const endpoint = requireEndpoint(this.#context, endpointId);
        if (!endpoint.sandbox) throw forbidden("not-attached", "cannot leave endpoint with no attached sandbox");
        if (endpoint.sandbox.id !== sandboxId) {
          throw forbidden(
            "other-sandbox",
            `unexpected sandbox ID in leave request. Expected ${endpoint.sandbox.id}. Got ${sandboxId}`,
          );
        }
        const { sandbox: _claim, ...free } = endpoint;
        const network = requireNetwork(this.#context, endpoint.network);
        if (!(await this.#replace(network, endpoint, free, signal))) continue;
        await this.unwire(endpoint, free, sandbox);
        return;
      }
      throw internal("contention", "the service could not be detached: other nodes change it too often");
    });
  }

  /**
   * Takes an endpoint's names and interface away from a sandbox of this host, after the store said that it is out. The caller
   * holds the locks of the endpoint, the sandbox and the network's presence.
   * @param after what became of the record; undefined where it is gone
   */
  async unwire(before: EndpointRecord, after: EndpointRecord | undefined, sandbox: SandboxRecord): Promise<void> {
    const others = this.#context.state.endpointsIn(sandbox.id).filter(({ id }) => id !== before.id);
    const network = this.#context.state.knownNetwork(before.network);
    const networks = network ? [network] : [];
    const work = (): Plan =>
      plan(detachPlan(this.#context, before, others, sandbox), this.#presence.leavePlan(networks));
    const alone = this.#presence.isSpanning(networks);
    await all(
      this.#context.naming.changed(after, before),
      takeDown(this.#context, work, { left: others, sandbox, alone }),
    );
    this.#unwired.add(before);
  }

  /** True where the endpoint was taken out of its sandbox, as this record has it, by an operation of this host. */
  isUnwired(record: EndpointRecord): boolean {
    return this.#unwired.has(record);
  }

  /** Replaces an endpoint's record; false where it is another by now, or gone: taken away by force, perhaps from elsewhere. */
  async #replace(network: NetworkRecord, before: EndpointRecord, after: EndpointRecord, signal?: AbortSignal) {
    if (!isDeepStrictEqual(this.#context.state.endpoints.get(before.id), before)) return false;
    const key = keys.endpoint(before.network, before.id);
    return this.#context.state.commit(network.scope, { unchanged: [key], puts: [{ key, value: after }] }, signal);
  }
}

/** Waits for all, also when one fails: the locks are held until the last is over. @throws the first error */
const all = async (...work: readonly Promise<void>[]): Promise<void> => {
  for (const result of await Promise.allSettled(work)) if (result.status === "rejected") throw result.reason;
};

/** `name` or `container:alias`. @throws NetworkError `invalid-alias` with the original's text and its status */
const checkAlias = (alias: string): string => {
  const parts = alias.split(":");
  if (parts.length > 2) throw internal("invalid-alias", `bad format for alias: ${alias.slice(0, 100)}`);
  for (const part of parts) checkServiceName(part);
  return alias;
};

/** `eth0` for the first network joined, then the lowest number that is free; a network may have another word than `eth`. */
const freeInterface = (others: readonly EndpointRecord[], prefix: string): string => {
  const used = new Set(others.map((other) => other.sandbox?.interface));
  for (let n = 0; ; n++) if (!used.has(`${prefix}${n}`)) return `${prefix}${n}`;
};
