import { closeSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { internal, NetworkError } from "../errors.ts";
import type { ForwardDrop } from "../linux/forward-drops.ts";
import type {
  ForeignChange,
  NeighborTable,
  Observed,
  OpenedSocket,
  SocketRequest,
  TableDifference,
} from "../linux/kernel.ts";
import type { NeighborEntry } from "../linux/neighbor-entries.ts";
import type { LinkLoss } from "../linux/netlink/link-loss.ts";
import type { NamespaceRef, Operation, Plan } from "../linux/plan.ts";
import { WorkerKernel, type WorkerKernelOptions } from "../linux/worker-kernel.ts";
import { atRead, betweenAsync, type FaultError, type Faults } from "./faults.ts";

/** The worker's file lies beside this one under the same ending; in a bundle, beside the bundle. */
const workerUrl = (): URL => {
  const ending = /faulty-kernel(\.ts)$/.exec(import.meta.url)?.[1] ?? ".cjs";
  return new URL(`./faulty-kernel-worker${ending}`, import.meta.url);
};

/** As where the worker has ended: what it did, nobody knows. */
const error: FaultError = (text) => new NetworkError("no-service", "kernel-worker", `the kernel worker ended: ${text}`);
const unread: FaultError = (text) => internal("kernel", text);

/**
 * The kernel with points of failure: in its worker, around every operation of a plan; here, where the answer to a whole plan gets
 * lost, and at everything that is read or opened.
 */
export class FaultyKernel extends WorkerKernel {
  readonly #faults: Faults;

  constructor(faults: Faults, options: WorkerKernelOptions) {
    super({ ...options, newWorker: (settings) => new Worker(workerUrl(), { ...settings, workerData: faults.shared }) });
    this.#faults = faults;
  }

  override apply(plan: Plan, signal?: AbortSignal): Promise<readonly Operation[]> {
    return plan.length === 0 ? super.apply(plan, signal) : this.#change("apply", () => super.apply(plan, signal));
  }

  override teardown(plan: Plan, signal?: AbortSignal): Promise<void> {
    return plan.length === 0
      ? super.teardown(plan, signal)
      : this.#change("teardown", () => super.teardown(plan, signal));
  }

  override isNamespace(path: string): Promise<boolean> {
    return this.#read("is namespace", () => super.isNamespace(path));
  }

  override observe(namespace: NamespaceRef, signal?: AbortSignal, of?: "addressed"): Promise<Observed | undefined> {
    return this.#read("observe", () => super.observe(namespace, signal, of));
  }

  override entries(namespace: NamespaceRef, signal?: AbortSignal): Promise<readonly NeighborEntry[] | undefined> {
    return this.#read("entries", () => super.entries(namespace, signal));
  }

  override openSockets(
    namespace: NamespaceRef,
    sockets: readonly SocketRequest[],
    signal?: AbortSignal,
  ): Promise<readonly OpenedSocket[]> {
    const discard = (opened: readonly OpenedSocket[]): void => {
      for (const { fd } of opened) closeSync(fd);
    };
    return this.#change("open sockets", () => super.openSockets(namespace, sockets, signal), discard);
  }

  override compareTables(
    script: string,
    tables: readonly string[],
    signal?: AbortSignal,
  ): Promise<readonly TableDifference[]> {
    return this.#read("compare tables", () => super.compareTables(script, tables, signal));
  }

  override watchTables(
    isOurs: (table: string) => boolean,
    onChange: (change: ForeignChange) => void,
  ): Promise<() => void> {
    return this.#change("watch tables", () => super.watchTables(isOurs, onChange), stop);
  }

  override watchLinks(mark: string, onLoss: (loss: LinkLoss | undefined) => void): Promise<() => void> {
    return this.#change("watch links", () => super.watchLinks(mark, onLoss), stop);
  }

  override watchRoutes(onChange: () => void): Promise<() => void> {
    return this.#change("watch routes", () => super.watchRoutes(onChange), stop);
  }

  override holdConnections(table: string): Promise<() => void> {
    return this.#change("hold connections", () => super.holdConnections(table), stop);
  }

  override openMissSocket(namespace: NamespaceRef): Promise<number> {
    return this.#change("open miss socket", () => super.openMissSocket(namespace), closeSync);
  }

  override neighborTables(signal?: AbortSignal): Promise<readonly NeighborTable[]> {
    return this.#read("neighbor tables", () => super.neighborTables(signal));
  }

  override portOwner(
    protocol: "tcp" | "udp" | "sctp",
    port: number,
    signal?: AbortSignal,
  ): Promise<string | undefined> {
    return this.#read("port owner", () => super.portOwner(protocol, port, signal));
  }

  override forwardDrops(signal?: AbortSignal): Promise<readonly ForwardDrop[]> {
    return this.#read("forward drops", () => super.forwardDrops(signal));
  }

  #change<T>(name: string, work: () => Promise<T>, discard?: (lost: T) => void): Promise<T> {
    return betweenAsync(this.#faults, `kernel: ${name}`, error, work, discard);
  }

  #read<T>(name: string, work: () => Promise<T>): Promise<T> {
    return atRead(this.#faults, `kernel: ${name}`, unread, work);
  }
}

const stop = (end: () => void): void => end();
