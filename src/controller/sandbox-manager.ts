import { forbidden, notImplemented } from "../errors.ts";
import { type Plan, plan } from "../linux/plan.ts";
import { requestText } from "../ports/port-text.ts";
import type { AttachmentManager } from "./attachment-manager.ts";
import { type Context, namespaceKey, requireSandbox } from "./context.ts";
import { endpointKeys } from "./endpoint-manager.ts";
import type { CreateSandbox } from "./model.ts";
import { checkContainerId, newId } from "./names.ts";
import { takeDown } from "./port-wiring.ts";
import { Presence } from "./presence.ts";
import { type EndpointRecord, keys, type SandboxRecord } from "./records.ts";
import { attachmentOf, sandboxPlan } from "./wiring.ts";

/** Life cycle of sandboxes: a namespace of its own (or the host's), files, a resolver; always local. */
export class SandboxManager {
  readonly #context: Context;
  readonly #presence: Presence;
  readonly #attachments: AttachmentManager;

  constructor(context: Context, presence: Presence, attachments: AttachmentManager) {
    this.#context = context;
    this.#presence = presence;
    this.#attachments = attachments;
  }

  async create(request: CreateSandbox, signal?: AbortSignal): Promise<SandboxRecord> {
    const { state, locks, kernel, naming } = this.#context;
    const container = checkContainerId(request.containerId);
    if (request.ports && request.ports.length > 0 && !this.#context.ports) {
      throw notImplemented("no-ports", "published ports need the nftables firewall, which this daemon runs without", {
        hint: 'set firewall = "nftables" in the daemon\'s configuration, or reach the sandbox by its address',
      });
    }
    return locks.hold([`container:${container}`, ...hostLock(request.useDefaultSandbox)], async () => {
      const present = state.sandboxOf(container);
      if (present) {
        throw forbidden("container-exists", `container ${container} is already present in sandbox ${present.id}`);
      }
      const record = newRecord(container, request);
      const committed = await state.commit(
        "local",
        {
          absent: [keys.sandbox(record.id), keys.container(container)],
          puts: [
            { key: keys.sandbox(record.id), value: record },
            { key: keys.container(container), value: { sandbox: record.id } },
          ],
        },
        signal,
      );
      if (!committed)
        throw forbidden("container-exists", `container ${container} is already present in another sandbox`);
      try {
        await naming.prepare(record);
        await kernel.apply(sandboxPlan(this.#context, record), signal);
        await naming.open(record, signal, true);
      } catch (error) {
        await this.remove(record, []);
        throw error;
      }
      return record;
    });
  }

  /** Removes the sandbox and, as in the original, the endpoints attached to it. */
  async delete(id: string): Promise<void> {
    const found = requireSandbox(this.#context, id);
    await this.#context.locks.hold(
      [`sandbox:${id}`, `container:${found.container}`, ...hostLock(found.host)],
      async () => {
        const record = requireSandbox(this.#context, id);
        // Whoever touches an attached endpoint holds its sandbox's lock too.
        await this.remove(record, this.#context.state.endpointsIn(id));
      },
    );
  }

  /**
   * Takes a sandbox's records, then its kernel objects, then its files away; the caller holds its lock. Two stores know no common
   * transaction: where endpoints of the shared one go as well, the sandbox's record says so before, and a removal that was
   * interrupted is gone on with by the next reconciliation.
   */
  async remove(record: SandboxRecord, endpoints: readonly EndpointRecord[]): Promise<void> {
    const networks = [...new Set(endpoints.map(({ network }) => network))];
    await this.#context.locks.hold(networks.map(Presence.lock), async () => {
      const { state, naming } = this.#context;
      const work = this.#teardownPlan(record, endpoints);
      const global = endpoints.filter(({ network }) => state.knownNetwork(network)?.scope === "global");
      const local = endpoints.filter((endpoint) => !global.includes(endpoint));
      const begun = global.length > 0 && (await this.#mark(record.id, true));
      try {
        for (const endpoint of global) await this.#removeShared(endpoint);
        await state.commit("local", {
          deletes: [keys.sandbox(record.id), keys.container(record.container), ...local.flatMap(endpointKeys)],
        });
      } catch (error) {
        // Those that are gone from the store must not stay in a sandbox that does.
        const gone = global.filter(({ id }) => !state.endpoints.has(id));
        for (const endpoint of gone) await this.#attachments.unwire(endpoint, undefined, record);
        // Nothing has happened, now or before: whether it is to be removed is to be asked again.
        if (begun && gone.length === 0) await this.#mark(record.id, false).catch(() => undefined);
        throw error;
      }
      for (const endpoint of endpoints) await naming.changed(undefined, endpoint);
      await naming.close(record);
      const known = networks.flatMap((id) => state.knownNetwork(id) ?? []);
      const leave = (): Plan => plan(work, this.#presence.leavePlan(known));
      await takeDown(this.#context, leave, { left: [], sandbox: record, alone: this.#presence.isSpanning(known) });
      await naming.discard(record.id);
    });
  }

  /** Notes that a removal has begun, or that it has not. @returns false where that was noted before */
  async #mark(id: string, removing: boolean): Promise<boolean> {
    const { state } = this.#context;
    for (;;) {
      const before = state.sandboxes.get(id);
      if (!before || (before.removing ?? false) === removing) return false;
      const { removing: _mark, ...plain } = before;
      const value: SandboxRecord = removing ? { ...plain, removing } : plain;
      const key = keys.sandbox(id);
      if (await state.commit("local", { unchanged: [key], puts: [{ key, value }] })) return true;
    }
  }

  /** Checked, because another node may have taken the endpoint and given its name and addresses to a new one meanwhile. */
  async #removeShared(endpoint: EndpointRecord): Promise<void> {
    const { state } = this.#context;
    const unchanged = [keys.endpoint(endpoint.network, endpoint.id)];
    while (state.endpoints.get(endpoint.id)?.sandbox?.id === endpoint.sandbox?.id) {
      if (await state.commit("global", { unchanged, deletes: endpointKeys(endpoint) })) return;
    }
  }

  #teardownPlan(record: SandboxRecord, endpoints: readonly EndpointRecord[]): Plan {
    const detach = endpoints.map((endpoint) => attachmentOf(this.#context, endpoint, record).detach);
    // The host's path stays while another sandbox shares it.
    const shared =
      record.host && [...this.#context.state.sandboxes.values()].some(({ id, host }) => host && id !== record.id);
    return shared
      ? plan(...detach)
      : plan(...detach, { op: "namespace.delete", path: namespaceKey(this.#context, record) });
  }
}

/** Sandboxes on the host's stack share one path: who makes it and who removes it take turns. */
const hostLock = (host: boolean | undefined): readonly string[] => (host ? ["host-stack"] : []);

const newRecord = (container: string, request: CreateSandbox): SandboxRecord => ({
  version: 1,
  id: newId(),
  container,
  hostName: request.hostName ?? "",
  domainName: request.domainName ?? "",
  ...(request.hostsPath !== undefined && { hostsPath: request.hostsPath }),
  ...(request.resolvConfPath !== undefined && { resolvConfPath: request.resolvConfPath }),
  dns: [...(request.dns ?? [])],
  dnsSearch: [...(request.dnsSearch ?? [])],
  dnsOptions: [...(request.dnsOptions ?? [])],
  extraHosts: (request.extraHosts ?? []).map(({ name, address }) => ({ name, address })),
  ...(request.ports && request.ports.length > 0 && { ports: request.ports.map(requestText) }),
  ...(request.exposed && request.exposed.length > 0 && { exposed: request.exposed.map(requestText) }),
  host: request.useDefaultSandbox ?? false,
  created: new Date().toISOString(),
});
