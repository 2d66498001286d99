import { isDeepStrictEqual } from "node:util";
import { errorText, forbidden, internal } from "../errors.ts";
import { firewallReach, firewallUnreach, type ReachablePort } from "../linux/firewall.ts";
import type { PortExplanation } from "../linux/firewall-explain.ts";
import {
  type PortForward,
  type PortProtocol,
  portsClear,
  portsReplace,
  portsRuleset,
} from "../linux/firewall-ports.ts";
import type { Kernel } from "../linux/kernel.ts";
import { hostNamespace, type Operation, type Plan, plan } from "../linux/plan.ts";
import type { Ip } from "../net/ip.ts";
import { bindingsOverlap, type PublishedPort } from "../ports/port-mapping.ts";
import { portSlots, slotsOf } from "../ports/port-slots.ts";
import type { HeldPorts, PortSlot, PortSockets } from "../ports/port-sockets.ts";
import { asPublished, parseRequest, requestText, tryParseRequest } from "../ports/port-text.ts";
import type { Log } from "./context.ts";
import type { Locks } from "./locks.ts";
import { explainPublished } from "./port-explanation.ts";
import { flowFlush, type PortTargets, portForwards, reachablePorts, relayTarget } from "./port-forwards.ts";
import { keys, type SandboxRecord } from "./records.ts";
import { sideBySide } from "./side-by-side.ts";
import type { State } from "./state.ts";

/** A change of a sandbox's ports that is prepared: whatever can refuse it has been asked. */
export interface PortChange {
  /** What makes the kernel match; to be applied in the same turn of the event loop that it is taken in. */
  plan(): Plan;
  /** The plan is applied: lets go of what is not needed any more. */
  settle(): Promise<void>;
  /** It is not, or it failed: all is as before. */
  cancel(): Promise<void>;
}

/** Nothing to do. */
export const noPortChange: PortChange = {
  plan: () => plan(),
  settle: async () => undefined,
  cancel: async () => undefined,
};

interface Active {
  readonly ports: readonly PublishedPort[];
  readonly targets: PortTargets;
  readonly held: readonly HeldPorts[];
  /** The address that ports without one of their own are bound to. */
  readonly standard: Ip | undefined;
}

/** Milliseconds between two tries to take ports back that another program took while no daemon held them. */
const retryInterval = 5_000;

/** Elements of a set: the same one twice is one. */
const reachOf = (active: Active | undefined): readonly ReachablePort[] =>
  active
    ? [...new Map(reachablePorts(active.ports, active.targets).map((one) => [JSON.stringify(one), one])).values()]
    : [];

const forwardsOf = ({ ports, targets }: Pick<Active, "ports" | "targets">) => portForwards(ports, targets);

const publishedOf = (sandbox: SandboxRecord): readonly PublishedPort[] =>
  (sandbox.published ?? []).flatMap((text) => asPublished(parseRequest(text)) ?? []);

/** New TCP connections meet new rules whatever was before; datagrams follow what is tracked (moby 8795). */
const isDatagram = ({ protocol }: PortForward): boolean => protocol !== "tcp";

/**
 * Published ports of sandboxes on this host: sockets that hold them, NAT that leads them on. All of it follows from records: what a
 * sandbox asked for and was given, and the endpoints it has. Changes of one sandbox are made under its lock.
 */
export class PortPublisher {
  /** The nftables table, with its family. */
  readonly table: string;
  readonly #name: string;
  readonly #firewall: string | undefined;
  readonly #state: State;
  readonly #kernel: Kernel;
  readonly #sockets: PortSockets;
  readonly #locks: Locks;
  readonly #log: Log;
  /** What the kernel was told last, by sandbox. */
  readonly #active = new Map<string, Active>();
  /** Slots that another program had at the start, by sandbox. */
  readonly #missing = new Map<string, readonly PortSlot[]>();
  #restored = false;
  #retry: NodeJS.Timeout | undefined;

  constructor(options: {
    readonly state: State;
    readonly kernel: Kernel;
    /** Name of the nftables table, of family inet. */
    readonly table: string;
    /** Name of the firewall's own table, where ports of routed networks are let in. */
    readonly firewall?: string;
    readonly sockets: PortSockets;
    readonly locks: Locks;
    readonly log: Log;
  }) {
    this.table = `inet ${options.table}`;
    this.#name = options.table;
    this.#firewall = options.firewall;
    this.#state = options.state;
    this.#kernel = options.kernel;
    this.#sockets = options.sockets;
    this.#locks = options.locks;
    this.#log = options.log;
  }

  /** The ports of a sandbox that lead somewhere at present. */
  published(sandbox: string): readonly PublishedPort[] {
    return this.#active.get(sandbox)?.ports ?? [];
  }

  /** Ports that are published and not held: another program had them when they were to be taken. */
  get missing(): readonly { readonly container: string; readonly protocol: PortProtocol; readonly port: number }[] {
    return [...this.#missing].flatMap(([id, slots]) => {
      const container = this.#state.sandboxes.get(id)?.container ?? id;
      return slots.map(({ protocol, hostPort: port }) => ({ container, protocol, port }));
    });
  }

  /** The batch that makes the whole table as it should be, whatever is there; or removes it. */
  ruleset(): string {
    return portsRuleset(this.#name, [...this.#active.values()].flatMap(forwardsOf));
  }

  /** What the firewall's own table lets in at sandboxes' own addresses. */
  reachable(): readonly ReachablePort[] {
    return [...this.#active.values()].flatMap(reachOf);
  }

  /** How a port of this host is led on, and why; undefined where it is not. */
  explainPort(port: number, protocol: PortProtocol): PortExplanation | undefined {
    const has = (run: { readonly protocol: string; readonly hostPort: number; readonly count: number }) =>
      run.protocol === protocol && run.hostPort <= port && port < run.hostPort + run.count;
    const runs = [...this.#active].flatMap(([id, { ports, targets }]) => {
      const container = this.#state.sandboxes.get(id)?.container ?? id;
      const missing = this.#missing.get(id) ?? [];
      return ports.filter(has).map((run) => ({
        container,
        run,
        targets,
        held: !missing.some(
          (slot) => slot.protocol === protocol && slot.hostPort === port && slot.hostAddress === run.hostAddress,
        ),
      }));
    });
    return runs.length === 0 ? undefined : explainPublished(port, runs);
  }

  /** Containers that ask for a port, and have it not: no network of theirs is one that ports lead to. */
  waitingFor(port: number, protocol: PortProtocol): readonly string[] {
    return [...this.#state.sandboxes.values()].flatMap(({ id, container, ports = [] }) => {
      if (this.#active.has(id)) return [];
      const wanted = ports.some((text) => {
        const request = tryParseRequest(text);
        if (request?.hostPort === undefined || request.protocol !== protocol) return false;
        return request.hostPort <= port && port <= (request.hostPortEnd ?? request.hostPort + request.count - 1);
      });
      return wanted ? [container] : [];
    });
  }

  /**
   * Prepares that a sandbox's ports lead to these targets, or nowhere: takes the ports and records what was given.
   * @throws NetworkError `port-allocated` where another sandbox has one, and what `PortSockets.hold` throws
   */
  async prepare(sandbox: SandboxRecord, targets: PortTargets, signal?: AbortSignal): Promise<PortChange> {
    const before = this.#active.get(sandbox.id);
    const wanted = (sandbox.ports ?? []).length > 0 && (targets[4] !== undefined || targets[6] !== undefined);
    if (!wanted) return before ? this.#change(sandbox.id, before, undefined) : noPortChange;
    if (before && before.standard === targets.hostAddress) {
      const same =
        before.targets[4]?.address === targets[4]?.address && before.targets[6]?.address === targets[6]?.address;
      return same ? noPortChange : this.#change(sandbox.id, before, { ...before, targets });
    }
    // Another default address: the ports it shares with the old one are free only when that one lets go.
    if (before) await this.#letGo(sandbox.id, before);
    try {
      const held = await this.#hold(sandbox, targets, signal);
      return this.#change(sandbox.id, before && { ...before, held: [] }, {
        ports: held.ports,
        targets,
        held: [held],
        standard: targets.hostAddress,
      });
    } catch (error) {
      if (before) await this.#holdAgain(sandbox, slotsOf(before.ports));
      throw error;
    }
  }

  /** The same when a sandbox leaves a network, which must not fail; ports that cannot be had on the next one are given up. */
  async prepareLeave(sandbox: SandboxRecord, targets: PortTargets): Promise<PortChange> {
    try {
      return await this.prepare(sandbox, targets);
    } catch (error) {
      this.#log("error", `the ports of container ${sandbox.container} are not published any more: ${errorText(error)}`);
      const before = this.#active.get(sandbox.id);
      return before ? this.#change(sandbox.id, before, undefined) : noPortChange;
    }
  }

  async #letGo(sandbox: string, active: Active): Promise<void> {
    this.#set(sandbox, { ...active, held: [] });
    for (const held of active.held) await held.close();
  }

  async #hold(sandbox: SandboxRecord, targets: PortTargets, signal?: AbortSignal): Promise<HeldPorts> {
    const slots = portSlots((sandbox.ports ?? []).map(parseRequest), targets.hostAddress, publishedOf(sandbox));
    this.#refuseTaken(sandbox, slots);
    const held = await this.#sockets.hold(slots, relayTarget(targets), signal);
    try {
      await this.#record(sandbox, held.ports, signal);
      return held;
    } catch (error) {
      await held.close();
      throw error;
    }
  }

  /** Names the sandbox that has a port; the socket that holds it would refuse it anyway. */
  #refuseTaken(sandbox: SandboxRecord, slots: readonly PortSlot[]): void {
    const taken = new Map<string, { readonly address: Ip | undefined; readonly sandbox: string }[]>();
    for (const [id, { ports }] of this.#active) {
      for (const { protocol, hostAddress: address, hostPort, count } of id === sandbox.id ? [] : ports) {
        for (let n = 0; n < count; n++) {
          const key = `${protocol} ${hostPort + n}`;
          taken.set(key, [...(taken.get(key) ?? []), { address, sandbox: id }]);
        }
      }
    }
    for (const { protocol, hostAddress, hostPort, otherwise } of slots) {
      const owner = taken.get(`${protocol} ${hostPort}`)?.find(({ address }) => bindingsOverlap(address, hostAddress));
      if (!owner || otherwise) continue;
      const shown =
        hostAddress === undefined ? "0.0.0.0" : hostAddress.includes(":") ? `[${hostAddress}]` : hostAddress;
      const container = this.#state.sandboxes.get(owner.sandbox)?.container ?? owner.sandbox;
      throw forbidden("port-allocated", `Bind for ${shown}:${hostPort} failed: port is already allocated`, {
        hint: `container ${container} has ${hostPort}/${protocol}; choose another host port, or none: then one is chosen for you`,
      });
    }
  }

  /** What was given is recorded, so that it is given again. */
  async #record(sandbox: SandboxRecord, ports: readonly PublishedPort[], signal?: AbortSignal): Promise<void> {
    const current = this.#state.sandboxes.get(sandbox.id);
    const published = ports.map(requestText);
    if (!current || isDeepStrictEqual(current.published, published)) return;
    const key = keys.sandbox(sandbox.id);
    const value: SandboxRecord = { ...current, published };
    if (!(await this.#state.commit("local", { unchanged: [key], puts: [{ key, value }] }, signal))) {
      throw internal("contention", `the ports of container ${sandbox.container} could not be recorded`, {
        hint: "try again",
      });
    }
  }

  #change(sandbox: string, before: Active | undefined, after: Active | undefined): PortChange {
    const old = before ? forwardsOf(before) : [];
    const next = after ? forwardsOf(after) : [];
    const unused = (before?.held ?? []).filter((held) => !after?.held.includes(held));
    const added = (after?.held ?? []).filter((held) => !before?.held.includes(held));
    let taken = false;
    return {
      plan: () => {
        taken = true;
        this.#set(sandbox, after);
        return plan(this.#plan(old, next), ...this.#reach(reachOf(before), reachOf(after)));
      },
      settle: async () => {
        for (const held of unused) await held.close();
        if (after) for (const held of after.held) held.retarget(relayTarget(after.targets));
        if (!after || added.length > 0) this.#missing.delete(sandbox);
      },
      cancel: async () => {
        for (const held of added) await held.close();
        const record = this.#state.sandboxes.get(sandbox);
        if (taken) this.#set(sandbox, before);
        if (before?.held.length === 0 && record) await this.#holdAgain(record, slotsOf(before.ports));
        if (!taken) return;
        // Whoever put the table back in the meantime put it back with this change in it.
        try {
          const back = this.#reach(reachOf(after), reachOf(before));
          await this.#kernel.teardown(plan(this.#plan(next, old), ...back));
        } catch (error) {
          this.#log("error", `could not take published ports back: ${errorText(error)}`);
        }
      },
    };
  }

  #set(sandbox: string, active: Active | undefined): void {
    if (active) this.#active.set(sandbox, active);
    else this.#active.delete(sandbox);
  }

  #reach(old: readonly ReachablePort[], next: readonly ReachablePort[]): readonly Operation[] {
    const table = this.#firewall;
    if (table === undefined || old.length + next.length === 0) return [];
    const lead = (from: readonly ReachablePort[], to: readonly ReachablePort[]) =>
      (from.length > 0 ? firewallUnreach(table, from) : "") + (to.length > 0 ? firewallReach(table, to) : "");
    return [{ op: "nft.apply", namespace: hostNamespace, script: lead(old, next), undo: lead(next, old) }];
  }

  /** The table goes with its last port: who publishes nothing pays for no hook. */
  #plan(old: readonly PortForward[], next: readonly PortForward[]): Plan {
    if (old.length === 0 && next.length === 0) return plan();
    const empty = ![...this.#active.values()].some((active) => forwardsOf(active).length > 0);
    const script = empty ? portsClear(this.#name) : portsReplace(this.#name, old, next);
    const undo = portsReplace(this.#name, next, old);
    return plan(
      { op: "nft.apply", namespace: hostNamespace, script, ...(!empty && { undo }) },
      ...flowFlush({ all: old, wrong: next.filter(isDatagram) }),
    );
  }

  /** What is published as records say it, at a start: `ruleset` has it from then on. */
  load(sandboxes: readonly { readonly sandbox: SandboxRecord; readonly targets: PortTargets }[]): void {
    if (this.#restored) return;
    for (const { sandbox, targets } of sandboxes) {
      if ((sandbox.published ?? []).length === 0 || (targets[4] ?? targets[6]) === undefined) continue;
      // What others changed in the meantime may have led to its ports already.
      if (this.#active.has(sandbox.id)) continue;
      this.#set(sandbox.id, { ports: publishedOf(sandbox), targets, held: [], standard: targets.hostAddress });
    }
  }

  /**
   * After `load` and a replacement of the whole ruleset, which has the rules: tracked flows, then the sockets. A port that another
   * program took meanwhile is logged and tried again until it is free.
   */
  async restore(signal?: AbortSignal): Promise<void> {
    // Once: later reconciliations find what runs, with the sockets that it holds.
    if (this.#restored) return;
    this.#restored = true;
    try {
      await this.#kernel.apply(plan(...flowFlush({ wrong: [...this.#active.values()].flatMap(forwardsOf) })), signal);
    } catch (error) {
      this.#log("error", `could not restore published ports: ${errorText(error)}`);
    }
    await sideBySide([...this.#active.keys()], (id) =>
      this.#locks.hold([`sandbox:${id}`], async () => {
        const [sandbox, active] = [this.#state.sandboxes.get(id), this.#active.get(id)];
        if (sandbox && active?.held.length === 0) await this.#holdAgain(sandbox, slotsOf(active.ports));
      }),
    );
  }

  /** Takes ports that are published already, as many as can be had; the others are tried again later. */
  async #holdAgain(sandbox: SandboxRecord, slots: readonly PortSlot[]): Promise<void> {
    const held: HeldPorts[] = [];
    const missing: PortSlot[] = [];
    const target = relayTarget(this.#active.get(sandbox.id)?.targets ?? {});
    try {
      held.push(await this.#sockets.hold(slots, target));
    } catch {
      for (const slot of slots) {
        try {
          held.push(await this.#sockets.hold([slot], target));
        } catch (error) {
          missing.push(slot);
          if (this.#missing.has(sandbox.id)) continue;
          const text = requestText({ ...slot, count: 1 });
          this.#log("error", `port ${text} of container ${sandbox.container} is not held: ${errorText(error)}`);
        }
      }
    }
    const active = this.#active.get(sandbox.id);
    if (active) this.#set(sandbox.id, { ...active, held: [...active.held, ...held] });
    else for (const each of held) await each.close();
    if (active && missing.length > 0) this.#missing.set(sandbox.id, missing);
    else this.#missing.delete(sandbox.id);
    this.#retryLater();
  }

  async #tryMissing(): Promise<void> {
    for (const id of [...this.#missing.keys()]) {
      await this.#locks.hold([`sandbox:${id}`], async () => {
        const [sandbox, slots] = [this.#state.sandboxes.get(id), this.#missing.get(id)];
        if (sandbox && slots) await this.#holdAgain(sandbox, slots);
        else this.#missing.delete(id);
      });
    }
  }

  /** One try at a time, as long as something is missing. */
  #retryLater(): void {
    if (this.#retry || this.#missing.size === 0) return;
    this.#retry = setTimeout(() => {
      this.#tryMissing()
        .catch((error: unknown) => this.#log("error", `could not take ports back: ${errorText(error)}`))
        .finally(() => {
          this.#retry = undefined;
          this.#retryLater();
        });
    }, retryInterval).unref();
  }

  /** Lets the ports go; the rules stay, and what they lead to. */
  async close(): Promise<void> {
    clearTimeout(this.#retry);
    this.#missing.clear();
    const held = [...this.#active.values()].flatMap((active) => active.held);
    this.#active.clear();
    for (const each of held) await each.close();
  }
}
