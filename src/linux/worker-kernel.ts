import { closeSync, lstatSync, statfsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { Worker, type WorkerOptions } from "node:worker_threads";
import { NetworkError, noService } from "../errors.ts";
import { ForeignChanges, knowsAuthors } from "./foreign-changes.ts";
import type { ForwardDrop } from "./forward-drops.ts";
import { HangWatch } from "./hang-watch.ts";
import type {
  ForeignChange,
  Kernel,
  NeighborTable,
  Observed,
  OpenedSocket,
  SocketRequest,
  TableDifference,
} from "./kernel.ts";
import type { ErrorData, KernelProgress, KernelReply, KernelRequest } from "./kernel-messages.ts";
import type { LookupQuery, LookupResult } from "./lookup.ts";
import type { NeighborEntry } from "./neighbor-entries.ts";
import { type LinkLoss, linkLosses } from "./netlink/link-loss.ts";
import { RulesetChanges } from "./netlink/nftables.ts";
import { NSFS_MAGIC, placeMark } from "./nsfs.ts";
import type { NamespaceRef, Operation, Plan } from "./plan.ts";
import { listenForReadable, readDatagrams } from "./readable.ts";

type Ask = KernelRequest extends infer R ? (R extends KernelRequest ? Omit<R, "id"> : never) : never;

interface Waiting {
  resolve(reply: KernelReply): void;
  reject(error: unknown): void;
}

/** The worker's file lies beside this one under the same ending; in a bundle, beside the bundle. */
const workerUrl = (): URL => {
  const ending = /worker-kernel(\.[jt]s)$/.exec(import.meta.url)?.[1] ?? ".cjs";
  return new URL(`./kernel-worker${ending}`, import.meta.url);
};

/** Operations of a plan come as their places in it. */
const operationsOf = (plan: Plan, done: readonly (number | Operation)[]): readonly Operation[] =>
  done.flatMap((one) => (typeof one === "number" ? (plan[one] ?? []) : one));

const toError = ({ kind, code, message, hint, errno }: ErrorData): NetworkError =>
  new NetworkError(kind, code, message, {
    ...(hint !== undefined && { hint }),
    ...(errno !== undefined && { errno }),
  });

/** Milliseconds without a word of the worker after which nobody waits any longer. One run of nft may take 30 s. */
const patience = 90_000;
const kernelHangs = (): NetworkError =>
  noService("kernel-hangs", "the kernel does not answer: a call has not come back", {
    hint: 'see `dmesg` ("waiting for ... to become free", "blocked for more than"); what runs goes on, changes are refused until it answers',
  });

/** Milliseconds that the worker has to close what it holds, after what is before it in its queue. */
const closeDeadline = 2_000;
const late = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds).unref());

export interface WorkerKernelOptions {
  /** Told of every change of the kernel, after it, in order. */
  readonly onOperation?: (operation: Operation, outcome: "done" | "undone") => void;
  /**
   * Milliseconds for one operation in the kernel, after which whoever waits is refused with `kernel-hangs`, and others at
   * once until it answers again.
   */
  readonly patience?: number;
  /** Starts the worker thread, which runs `serveKernel`. */
  readonly newWorker?: (options: WorkerOptions) => Worker;
}

/** The kernel, through a worker thread: this thread never enters a namespace and never waits for the kernel. */
export class WorkerKernel implements Kernel {
  readonly #newWorker: (options: WorkerOptions) => Worker;
  readonly #onOperation: (operation: Operation, outcome: "done" | "undone") => void;
  readonly #waiting = new Map<number, Waiting>();
  readonly #changes = new Set<ForeignChanges>();
  readonly #hangWatch: HangWatch;
  #worker: Worker | undefined;
  #closed = false;
  #id = 0;

  constructor(options: WorkerKernelOptions = {}) {
    this.#newWorker = options.newWorker ?? ((settings) => new Worker(workerUrl(), settings));
    this.#onOperation = options.onOperation ?? (() => undefined);
    this.#hangWatch = new HangWatch(options.patience ?? patience, () => this.#giveUp());
  }

  get trouble(): string | undefined {
    return this.#hangWatch.hangs ? kernelHangs().message : undefined;
  }

  async apply(plan: Plan, signal?: AbortSignal): Promise<readonly Operation[]> {
    if (plan.length === 0) return [];
    const { errors, done = [] } = await this.#ask({ kind: "apply", plan }, signal);
    if (errors[0]) throw toError(errors[0]);
    return operationsOf(plan, done);
  }

  async teardown(plan: Plan, signal?: AbortSignal): Promise<void> {
    if (plan.length === 0) return;
    const { errors } = await this.#ask({ kind: "teardown", plan }, signal);
    if (errors.length > 0) {
      throw new AggregateError(errors.map(toError), errors.map(({ message }) => message).join("; "));
    }
  }

  async isNamespace(path: string): Promise<boolean> {
    try {
      // At once: it waits for nothing, and a trip to another thread would take twenty times as long.
      return statfsSync(path).type === NSFS_MAGIC;
    } catch (error) {
      if ((error as { code?: string }).code === "ENOENT") return false;
      throw error;
    }
  }

  async observe(namespace: NamespaceRef, signal?: AbortSignal, of?: "addressed"): Promise<Observed | undefined> {
    const { errors, observed } = await this.#ask({ kind: "observe", namespace, of }, signal);
    if (errors[0]) throw toError(errors[0]);
    return observed;
  }

  async entries(namespace: NamespaceRef, signal?: AbortSignal): Promise<readonly NeighborEntry[] | undefined> {
    const { errors, entries } = await this.#ask({ kind: "entries", namespace }, signal);
    if (errors[0]) throw toError(errors[0]);
    return entries;
  }

  async namespacesIn(directory: string): Promise<readonly string[]> {
    try {
      return (await readdir(directory)).map((name) => join(directory, name));
    } catch {
      // Nothing was made there yet.
      return [];
    }
  }

  async vacantIn(directory: string): Promise<readonly string[]> {
    return (await this.namespacesIn(directory)).filter((path) => {
      // Of the namespace's file system where one is mounted.
      const found = lstatSync(path, { throwIfNoEntry: false });
      return found?.isFile() && found.size === 0 && (found.mode & placeMark) !== 0;
    });
  }

  async lookup(namespace: NamespaceRef, query: LookupQuery, signal?: AbortSignal): Promise<LookupResult | undefined> {
    const { errors, found } = await this.#ask({ kind: "lookup", namespace, query }, signal);
    if (errors[0]) throw toError(errors[0]);
    return found;
  }

  async openSockets(
    namespace: NamespaceRef,
    sockets: readonly SocketRequest[],
    signal?: AbortSignal,
  ): Promise<readonly OpenedSocket[]> {
    const { errors, sockets: opened = [] } = await this.#ask({ kind: "sockets", namespace, sockets }, signal);
    if (errors[0]) throw toError(errors[0]);
    return opened;
  }

  async compareTables(
    script: string,
    tables: readonly string[],
    signal?: AbortSignal,
  ): Promise<readonly TableDifference[]> {
    const { errors, differences = [] } = await this.#ask({ kind: "compare", script, tables }, signal);
    if (errors[0]) throw toError(errors[0]);
    return differences;
  }

  async watchTables(
    isOurs: (table: string) => boolean,
    onChange: (change: ForeignChange) => void,
  ): Promise<() => void> {
    listenForReadable();
    const fd = await this.#descriptor({ kind: "watch", topic: "ruleset" });
    const changes = new ForeignChanges((change) => {
      if (!change || [...change.tables].some(isOurs)) onChange(change && { program: change.program, pid: change.pid });
    }, knowsAuthors());
    this.#changes.add(changes);
    const batches = new RulesetChanges();
    const stop = readDatagrams(fd, (bytes) => {
      for (const change of batches.read(bytes)) changes.changed(change, this.#waiting.size > 0 ? this.#id : undefined);
    });
    return () => {
      this.#changes.delete(changes);
      stop();
    };
  }

  async watchLinks(mark: string, onLoss: (loss: LinkLoss | undefined) => void): Promise<() => void> {
    listenForReadable();
    const fd = await this.#descriptor({ kind: "watch", topic: "links" });
    return readDatagrams(fd, (bytes) => {
      for (const loss of bytes ? linkLosses(bytes, mark) : [undefined]) onLoss(loss);
    });
  }

  async watchRoutes(onChange: () => void): Promise<() => void> {
    listenForReadable();
    return readDatagrams(await this.#descriptor({ kind: "watch", topic: "routes" }), onChange);
  }

  async neighborTables(signal?: AbortSignal): Promise<readonly NeighborTable[]> {
    const { errors, neighborTables = [] } = await this.#ask({ kind: "neighbors" }, signal);
    if (errors[0]) throw toError(errors[0]);
    return neighborTables;
  }

  async portOwner(protocol: "tcp" | "udp" | "sctp", port: number, signal?: AbortSignal): Promise<string | undefined> {
    const { errors, portOwner } = await this.#ask({ kind: "port-owner", protocol, port }, signal);
    if (errors[0]) throw toError(errors[0]);
    return portOwner;
  }

  async forwardDrops(signal?: AbortSignal): Promise<readonly ForwardDrop[]> {
    const { errors, forwardDrops = [] } = await this.#ask({ kind: "forward-drops" }, signal);
    if (errors[0]) throw toError(errors[0]);
    return forwardDrops;
  }

  async holdConnections(table: string): Promise<() => void> {
    const fd = await this.#descriptor({ kind: "hold", table });
    return () => closeSync(fd);
  }

  async #descriptor(request: Ask): Promise<number> {
    const { errors, sockets: [opened] = [] } = await this.#ask(request);
    if (errors[0]) throw toError(errors[0]);
    if (!opened) throw noService("kernel-worker", "the kernel worker opened no socket");
    return opened.fd;
  }

  /** A socket that hears of misses in a namespace (see `miss-watch.ts`); the caller closes it. @throws NetworkError `no-namespace` */
  async openMissSocket(namespace: NamespaceRef): Promise<number> {
    return this.#descriptor({ kind: "miss-socket", namespace });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    // Descriptors are the process's: those of a thread that is ended would stay open, and hold their namespaces.
    const closed = this.#worker && this.#ask({ kind: "close" }).then(undefined, () => undefined);
    this.#closed = true;
    await Promise.race([closed, late(closeDeadline)]);
    // A thread that hangs in the kernel cannot be ended either.
    await Promise.race([this.#worker?.terminate(), late(closeDeadline)]);
  }

  async #ask(request: Ask, signal?: AbortSignal): Promise<KernelReply> {
    signal?.throwIfAborted();
    const worker = this.#start();
    if (this.#hangWatch.hangs) throw kernelHangs();
    const id = ++this.#id;
    const reply = await new Promise<KernelReply>((resolve, reject) => {
      // The worker keeps the process alive only while somebody waits for it.
      if (this.#waiting.size === 0) worker.ref();
      this.#waiting.set(id, { resolve, reject });
      this.#hangWatch.asked();
      worker.postMessage({ ...request, id });
    });
    const plan = "plan" in request ? request.plan : [];
    for (const operation of operationsOf(plan, reply.done ?? [])) this.#onOperation(operation, "done");
    for (const operation of reply.undone ?? []) this.#onOperation(operation, "undone");
    return reply;
  }

  /** What was asked may still be done, later: then it is a difference that the next reconcile removes. */
  #giveUp(): void {
    const all = [...this.#waiting.values()];
    this.#waiting.clear();
    this.#worker?.unref();
    for (const { reject } of all) reject(kernelHangs());
  }

  /** The worker, started on first use and again after it died. */
  #start(): Worker {
    if (this.#closed) throw noService("kernel-closed", "the kernel worker is closed");
    if (this.#worker) return this.#worker;
    // It holds little: small spaces keep the daemon small.
    const resourceLimits = { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 256 };
    const worker = this.#newWorker({ name: "kernel", resourceLimits });
    this.#worker = worker;
    worker.unref();
    worker.on("message", (reply: KernelReply | KernelProgress) => {
      if ("kind" in reply) return this.#hangWatch.answered(this.#waiting.size > 0);
      const waiting = this.#waiting.get(reply.id);
      this.#waiting.delete(reply.id);
      this.#hangWatch.answered(this.#waiting.size > 0);
      if (this.#waiting.size === 0) worker.unref();
      for (const changes of this.#changes) changes.replied(reply.id, reply.batches ?? []);
      if (waiting) waiting.resolve(reply);
      else for (const { fd } of reply.sockets ?? []) closeSync(fd);
    });
    let reason = "it was stopped";
    worker.on("error", (error) => {
      reason = error instanceof Error ? error.message : String(error);
    });
    worker.on("exit", () => {
      this.#worker = undefined;
      this.#hangWatch.answered(false);
      const error = noService("kernel-worker", `the kernel worker ended: ${reason}`, {
        hint: "the next operation starts a new one",
      });
      for (const changes of this.#changes) changes.replied(this.#id, []);
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    });
    return worker;
  }
}
