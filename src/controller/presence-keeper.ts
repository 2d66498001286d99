import { errorText } from "../errors.ts";
import { type Miss, type MissWatch, missText } from "../linux/miss-watch.ts";
import { narrate } from "../linux/narrate.ts";
import { type Plan, plan } from "../linux/plan.ts";
import type { Mac } from "../net/mac.ts";
import { type Context, isHere } from "./context.ts";
import { compareEntries, type EntryDifference } from "./peer-entries.ts";
import { PeerIndex } from "./peer-index.ts";
import { periodically } from "./periodically.ts";
import { defaultPeersAhead, Presence, type PresenceListener } from "./presence.ts";
import type { EndpointRecord, NetworkRecord } from "./records.ts";
import type { RecordChanges } from "./state.ts";
import { attachmentOf } from "./wiring.ts";

export interface PresenceOptions {
  /** A network with more endpoints than this is followed on demand. Default 4096. */
  readonly peersAhead?: number;
  /** Milliseconds between two looks at what the kernel has, give or take a fifth. Default 30,000. */
  readonly repairEvery?: number;
  /** Seconds after which what was installed on demand and is not used goes. Default 300. */
  readonly idleAfter?: number;
}

/**
 * Keeps what networks have on this host as it should be: looks from time to time and puts right what others changed, installs what a
 * packet missed at once, and lets go of what was installed on demand and is not used.
 */
export class PresenceKeeper implements PresenceListener {
  readonly #context: Context;
  readonly #presence: Presence;
  readonly #misses: MissWatch | undefined;
  /** False while the shared store cannot be read: what is not known may still be wanted, and stays. */
  readonly #isComplete: () => boolean;
  readonly #every: number;
  readonly #idleAfter: number;
  readonly #limit: number;
  readonly #watches = new Map<string, { readonly abort: AbortController; readonly ended: Promise<void> }>();
  readonly #indexes = new Map<string, PeerIndex>();
  /** What was installed on demand, the longest installed first, by network and MAC: id of the endpoint. */
  readonly #installed = new Map<string, Map<Mac, string>>();
  #stop: (() => Promise<void>) | undefined;
  #closed = false;

  constructor(
    context: Context,
    parts: {
      readonly presence: Presence;
      readonly misses: MissWatch | undefined;
      readonly isComplete: () => boolean;
      readonly options: PresenceOptions | undefined;
    },
  ) {
    this.#context = context;
    this.#presence = parts.presence;
    this.#misses = parts.misses;
    this.#isComplete = parts.isComplete;
    this.#every = parts.options?.repairEvery ?? 30_000;
    this.#idleAfter = parts.options?.idleAfter ?? 300;
    this.#limit = parts.options?.peersAhead ?? defaultPeersAhead;
    parts.presence.listener = this;
  }

  /** Begins to look from time to time. */
  start(): void {
    if (!this.#closed) this.#stop = periodically(this.#every, () => this.#repairAll());
  }

  async #repairAll(): Promise<void> {
    const { locks, log } = this.#context;
    for (const network of this.#presence.networks()) {
      if (this.#closed) return;
      try {
        await locks.hold([Presence.lock(network.id)], () => this.repair(network));
      } catch (error) {
        log("error", `could not look after network ${network.name} on this host: ${errorText(error)}`);
      }
    }
  }

  /** Puts right what the kernel has of a network. The caller holds the lock of the network's presence. */
  async repair(network: NetworkRecord): Promise<void> {
    const { kernel } = this.#context;
    const place = this.#presence.place(network);
    if (!place || !this.#presence.isPresent(network.id)) return;
    await this.#repairLinks(network, place.namespace);
    this.arrived(network);
    const onDemand = this.#presence.isOnDemand(network.id);
    const found = (await kernel.entries(place.namespace)) ?? [];
    const all = this.#presence.peersPlan(network, true);
    const difference = compareEntries(place, found, all, onDemand ? this.#idleAfter : undefined);
    const foreign = this.#isComplete() ? difference.foreign : [];
    this.#report(network, { ...difference, foreign });
    await kernel.apply(plan(...difference.missing));
    await kernel.teardown(plan(...foreign, ...difference.idle));
  }

  #report({ name }: NetworkRecord, { missing, foreign, idle, expected }: EntryDifference): void {
    const { log, repairs } = this.#context;
    if (idle.length > 0) log("debug", `network ${name}: ${idle.length} entries were not used for long: removed`);
    const parts = [
      missing[0] && `no ${missing.length} of them (first: ${narrate(missing[0])})`,
      foreign[0] && `${foreign.length} others (first: ${narrate(foreign[0])})`,
    ].filter(Boolean);
    if (parts.length === 0) return;
    const what = `expected ${expected} entries of endpoints on other hosts`;
    repairs.say("warning", `network ${name}: found ${parts.join(" and ")}, ${what}: repaired`);
  }

  /** Links that somebody removed or set down, and with them what was made on them. */
  async #repairLinks(network: NetworkRecord, namespace: string): Promise<void> {
    const { firewall, kernel, repairs, state } = this.#context;
    const work = this.#presence.plan(network);
    const observed = await kernel.observe(namespace);
    const up = new Set(observed?.links.filter((link) => link.up).map(({ name }) => name));
    const absent = work.flatMap((operation) =>
      operation.op === "link.add" && operation.namespace === namespace && !up.has(operation.link.name)
        ? [operation.link.name]
        : [],
    );
    if (absent.length === 0) return;
    repairs.say("warning", `network ${network.name}: found no ${absent.join(", ")} that is up, expected it: made anew`);
    const wiring = state.endpointsOf(network.id).flatMap((endpoint): readonly Plan[] => {
      const sandbox = isHere(this.#context, endpoint) ? state.sandboxes.get(endpoint.sandbox?.id ?? "") : undefined;
      return sandbox ? [attachmentOf(this.#context, endpoint, sandbox).attach] : [];
    });
    await firewall.exclusive(() => kernel.apply(plan(work, ...wiring)));
  }

  arrived(network: NetworkRecord): void {
    const place = this.#presence.place(network);
    if (!this.#misses || !place || this.#closed || this.#watches.has(network.id)) return;
    const abort = new AbortController();
    const ended = this.#follow(network, place, abort.signal);
    this.#watches.set(network.id, { abort, ended });
  }

  async left(network: string): Promise<void> {
    const watch = this.#watches.get(network);
    watch?.abort.abort();
    this.#watches.delete(network);
    this.#indexes.delete(network);
    this.#installed.delete(network);
    await watch?.ended;
  }

  changed(network: string, changes: RecordChanges["endpoints"]): void {
    this.#indexes.get(network)?.update(changes);
  }

  async #follow(
    network: NetworkRecord,
    place: { readonly namespace: string; readonly devices: readonly string[] },
    signal: AbortSignal,
  ): Promise<void> {
    const { log } = this.#context;
    try {
      for await (const miss of this.#misses?.watch(place.namespace, signal) ?? []) {
        if (signal.aborted) return;
        if (miss.device !== undefined && !place.devices.includes(miss.device)) continue;
        log("debug", `${missText(miss)} in network ${network.name}`);
        await this.#missed(network, miss, signal);
      }
    } catch (error) {
      if (signal.aborted) return;
      log("warning", `misses in network ${network.name} are not seen until the next look: ${errorText(error)}`);
      this.#watches.delete(network.id);
    }
  }

  /** A packet was for an endpoint that the kernel does not know, or for nobody. */
  async #missed(network: NetworkRecord, miss: Miss, signal: AbortSignal): Promise<void> {
    const { state, locks, log } = this.#context;
    const index = this.#indexes.get(network.id) ?? new PeerIndex(state, network.id);
    this.#indexes.set(network.id, index);
    const key = miss.kind === "l2" ? miss.mac : miss.ip;
    if (!index.find(key)) return;
    try {
      await locks.hold([Presence.lock(network.id)], async () => {
        const endpoint = index.find(key);
        if (endpoint && !signal.aborted) await this.#install(network, endpoint);
      });
    } catch (error) {
      log("error", `could not install what was missed in network ${network.name}: ${errorText(error)}`);
    }
  }

  async #install(network: NetworkRecord, endpoint: EndpointRecord): Promise<void> {
    const { kernel, log, nodeName, repairs, state } = this.#context;
    const work = this.#presence.peerPlan(endpoint);
    if (work.length === 0) return;
    await kernel.apply(work);
    const what = `the way to ${endpoint.name} on node ${nodeName(endpoint.sandbox?.node ?? "")}`;
    if (!this.#presence.isOnDemand(network.id)) {
      repairs.say("warning", `network ${network.name}: found no entry for ${what}, expected one: added`);
      return;
    }
    log("debug", `network ${network.name}: installed ${what}`);
    const installed = this.#installed.get(network.id) ?? new Map<Mac, string>();
    this.#installed.set(network.id, installed);
    if (endpoint.mac === undefined) return;
    installed.delete(endpoint.mac);
    installed.set(endpoint.mac, endpoint.id);
    const [oldest] = installed;
    if (installed.size <= this.#limit || !oldest) return;
    installed.delete(oldest[0]);
    const gone = state.endpoints.get(oldest[1]);
    if (gone) await kernel.teardown(this.#presence.peerPlan(gone, "remove"));
  }

  async close(): Promise<void> {
    this.#closed = true;
    const watches = [...this.#watches.values()];
    this.#watches.clear();
    for (const { abort } of watches) abort.abort();
    await Promise.all([this.#stop?.(), ...watches.map(({ ended }) => ended)]);
  }
}
