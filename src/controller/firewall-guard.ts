import { errorText, NetworkError } from "../errors.ts";
import {
  type FirewallNetwork,
  type FirewallPart,
  firewallAdd,
  firewallClear,
  firewallRemove,
  firewallRuleset,
} from "../linux/firewall.ts";
import type { ForeignChange, Kernel, TableDifference } from "../linux/kernel.ts";
import { hostNamespace, type Plan, plan } from "../linux/plan.ts";
import type { Log } from "./context.ts";
import type { Locks } from "./locks.ts";
import type { Repairs } from "./repairs.ts";

/** The host's ruleset as the managers of the model change it. */
export interface Firewall {
  /** A table of another part, kept like ours from then on. */
  register(part: FirewallPart): void;
  /** Its table is looked after no longer; whoever made it removes it. */
  unregister(part: FirewallPart): void;
  /** Replaces the whole ruleset by one for these networks, asked for at that moment, and guards it from then on. */
  restore(networks: () => readonly FirewallNetwork[], signal?: AbortSignal): Promise<void>;
  /** Brings a network under the ruleset, then applies its plan; both or nothing. */
  protect(network: FirewallNetwork | undefined, create: Plan, signal?: AbortSignal): Promise<void>;
  /** Applies the plan that removes a network, then takes it out of the ruleset. */
  release(network: FirewallNetwork | undefined, remove: Plan): Promise<void>;
  /** Work that changes what a registered part returns, and the kernel with it: the guard looks before it or after it. */
  exclusive<T>(work: () => Promise<T>): Promise<T>;
  /** Tables of other parts. */
  readonly parts: readonly FirewallPart[];
  /** How the kernel's tables differ from what they should be, now. */
  differences(signal?: AbortSignal): Promise<readonly TableDifference[]>;
  /** Ends the guard; an empty ruleset goes. */
  close(): Promise<void>;
}

/** Backend `none`: packets are left alone. */
export class NoFirewall implements Firewall {
  readonly parts: readonly FirewallPart[] = [];
  readonly #kernel: Kernel;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  register(): void {}
  unregister(): void {}
  async restore(): Promise<void> {}
  async differences(): Promise<readonly TableDifference[]> {
    return [];
  }
  async close(): Promise<void> {}

  async protect(_network: FirewallNetwork | undefined, create: Plan, signal?: AbortSignal): Promise<void> {
    await this.#kernel.apply(create, signal);
  }

  async release(_network: FirewallNetwork | undefined, remove: Plan): Promise<void> {
    await this.#kernel.teardown(remove);
  }

  exclusive<T>(work: () => Promise<T>): Promise<T> {
    return work();
  }
}

/** Milliseconds from a foreign change to the look at our table: a reload is many changes. */
const settle = 50;
/** Milliseconds between looks after one that found nothing or failed: some programs change rules without end. */
const pause = 1000;

const lock = "firewall";

/**
 * Backend `nftables`: keeps the table as desired. Whoever changes it (a flush, a firewall's reload, a hand), the kernel tells;
 * the table is compared with what it should be and replaced where they differ.
 */
export class FirewallGuard implements Firewall {
  readonly parts: FirewallPart[] = [];
  readonly #kernel: Kernel;
  readonly #locks: Locks;
  readonly #log: Log;
  readonly #repairs: Repairs;
  readonly #table: string;
  /** What the table holds, by bridge: changed only under the lock. */
  readonly #networks = new Map<string, FirewallNetwork>();
  readonly #stops: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;
  /** When the next look may be, on the clock of `performance`. */
  #notBefore = 0;
  #author: ForeignChange;
  #closed = false;
  #watching = false;
  #holding = false;

  constructor(options: {
    readonly kernel: Kernel;
    readonly locks: Locks;
    readonly log: Log;
    readonly repairs: Repairs;
    readonly table: string;
  }) {
    this.#kernel = options.kernel;
    this.#locks = options.locks;
    this.#log = options.log;
    this.#repairs = options.repairs;
    this.#table = options.table;
  }

  register(part: FirewallPart): void {
    this.parts.push(part);
  }

  unregister(part: FirewallPart): void {
    const at = this.parts.indexOf(part);
    if (at >= 0) this.parts.splice(at, 1);
  }

  async restore(networks: () => readonly FirewallNetwork[], signal?: AbortSignal): Promise<void> {
    // Called again by every repair: what could not be had before may be had now.
    this.#watching ||= await this.#watch();
    await this.exclusive(async () => {
      this.#networks.clear();
      for (const network of networks()) this.#networks.set(network.bridge, network);
      await this.#replace(signal);
    });
    this.#holding ||= await this.#hold();
  }

  async #watch(): Promise<boolean> {
    try {
      const isOurs = (name: string): boolean => this.#tables().some((table) => table.endsWith(` ${name}`));
      this.#stops.push(await this.#kernel.watchTables(isOurs, (change) => this.#changed(change)));
      return true;
    } catch (error) {
      this.#log("warning", `rules are not put back when others change them: ${errorText(error)}`);
      return false;
    }
  }

  async #hold(): Promise<boolean> {
    try {
      this.#stops.push(await this.#kernel.holdConnections(`${this.#table}_hold`));
      return true;
    } catch (error) {
      this.#log(
        "warning",
        `established connections through NAT may break when another program flushes all rules: ${errorText(error)}`,
      );
      return false;
    }
  }

  async protect(network: FirewallNetwork | undefined, create: Plan, signal?: AbortSignal): Promise<void> {
    if (!network) {
      await this.#kernel.apply(create, signal);
      return;
    }
    const undo = firewallRemove(this.#table, network);
    const under = (script: string) => plan({ op: "nft.apply", namespace: hostNamespace, script, undo }, create);
    await this.exclusive(async () => {
      // Rules exist before the link is up: no packet passes unprotected.
      try {
        await this.#kernel.apply(under(firewallAdd(this.#table, network)), signal);
      } catch (error) {
        if (!isOfRules(error)) throw error;
        // Somebody took the table away and it is not back yet: then all of it, with this network.
        await this.#kernel.apply(under(this.#script([...this.#networks.values(), network])), signal);
      }
      this.#networks.set(network.bridge, network);
    });
  }

  async release(network: FirewallNetwork | undefined, remove: Plan): Promise<void> {
    if (!network) return this.#kernel.teardown(remove);
    await this.exclusive(async () => {
      this.#networks.delete(network.bridge);
      const script = firewallRemove(this.#table, network);
      try {
        await this.#kernel.teardown(plan(remove, { op: "nft.apply", namespace: hostNamespace, script }));
      } catch (error) {
        const failures: readonly unknown[] = error instanceof AggregateError ? error.errors : [error];
        if (!failures.every(isOfRules)) throw error;
        await this.#replace();
      }
    });
  }

  exclusive<T>(work: () => Promise<T>): Promise<T> {
    return this.#locks.hold([lock], work);
  }

  #tables(): readonly string[] {
    return [`inet ${this.#table}`, ...this.parts.map(({ table }) => table)];
  }

  #script(networks: Iterable<FirewallNetwork> = this.#networks.values()): string {
    return firewallRuleset(this.#table, [...networks], this.parts);
  }

  /** How the kernel's tables differ from what they should be, or may be. */
  async #compare(signal?: AbortSignal): Promise<readonly TableDifference[]> {
    const found = await this.#kernel.compareTables(this.#script(), this.#tables(), signal);
    const differs = ({ table }: { readonly table: string }) => found.some((each) => each.table === table);
    const idle = this.parts.filter((part) => differs(part) && part.idle?.() !== undefined);
    if (idle.length === 0) return found;
    const asIdle = this.parts.map((part) =>
      idle.includes(part) ? { ...part, ruleset: () => part.idle?.() ?? "" } : part,
    );
    const script = firewallRuleset(this.#table, [...this.#networks.values()], asIdle);
    return (await this.#kernel.compareTables(script, this.#tables(), signal)).filter(differs);
  }

  /** Protection that cannot be installed is no reason to go on: this throws. */
  async #replace(signal?: AbortSignal): Promise<void> {
    await this.#kernel.apply(plan({ op: "nft.apply", namespace: hostNamespace, script: this.#script() }), signal);
  }

  #changed(change: ForeignChange): void {
    this.#author = change;
    if (this.#closed || this.#timer) return;
    const look = async (): Promise<void> => {
      this.#timer = undefined;
      try {
        await this.#check();
      } catch (error) {
        if (this.#closed) return;
        this.#log("error", `could not check the firewall: ${errorText(error)}`);
        this.#notBefore = performance.now() + pause;
        this.#changed(this.#author);
      }
    };
    this.#timer = setTimeout(look, Math.max(settle, this.#notBefore - performance.now()));
  }

  async #check(): Promise<void> {
    await this.exclusive(async () => {
      if (this.#closed) return;
      const began = performance.now();
      const differences = await this.#compare();
      if (differences.length === 0) {
        this.#notBefore = performance.now() + pause;
        return;
      }
      await this.#replace();
      const by = this.#author ? ` (changed by ${this.#author.program}, process ${this.#author.pid})` : "";
      const took = Math.round(performance.now() - began);
      const count = this.#networks.size;
      const expected = `expected ours with ${count} network${count === 1 ? "" : "s"}`;
      const found = differences.map(differenceText).join("; ");
      this.#repairs.say("warning", `found ${found}${by}, ${expected}: replaced, in ${took} ms`);
    });
  }

  differences(signal?: AbortSignal): Promise<readonly TableDifference[]> {
    return this.exclusive(() => this.#compare(signal));
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.exclusive(async () => {
      for (const stop of this.#stops.splice(0)) stop();
      // Rules protect what runs on after us; where nothing does, they go.
      if (this.#networks.size > 0) return;
      try {
        const script = [firewallClear(this.#table), ...this.parts.map((part) => part.ruleset())].join("");
        await this.#kernel.apply(plan({ op: "nft.apply", namespace: hostNamespace, script }));
      } catch (error) {
        this.#log("warning", `could not remove the empty nftables table ${this.#table}: ${errorText(error)}`);
      }
    });
  }
}

/** True where nft refused: the table may not be what a change of it expects. */
const isOfRules = (error: unknown): boolean => error instanceof NetworkError && error.code === "nft";

/** `table inet t without 2 of 60 lines (first: ...)`. */
export const differenceText = ({ table, absent, missing, extra, expected, reordered }: TableDifference): string => {
  if (absent) return `no table ${table}`;
  if (reordered) return `table ${table} in another order`;
  const parts = [
    missing.length > 0 && `without ${missing.length} of ${expected} lines (first: ${missing[0]})`,
    extra.length > 0 && `with ${extra.length} foreign (first: ${extra[0]})`,
  ];
  return `table ${table} ${parts.filter(Boolean).join(" and ")}`;
};
