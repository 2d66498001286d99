import { closeSync, writeSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { errorText, type NetworkError, noService } from "../errors.ts";
import type { Kernel } from "./kernel.ts";
import { type MissReport, type MissRequest, shared } from "./miss-messages.ts";
import type { Miss, MissWatch } from "./miss-watch.ts";
import type { NamespaceRef } from "./plan.ts";
import { workerUrl } from "./worker-url.ts";

/** Misses that wait for a slow reader; the next packet of one that is left out misses again. */
const queueLength = 1_024;

interface Watcher {
  /** Names of the namespace's devices by their index, at the time when the watch began. */
  readonly devices: ReadonlyMap<number, string>;
  readonly queue: Miss[];
  failure?: NetworkError;
  /** Wakes the reader. */
  ring: () => void;
}

const one = Buffer.alloc(8);
one.writeBigUInt64LE(1n);

/** The miss watch on a thread that is started with the first watch. */
export class WorkerMissWatch implements MissWatch {
  readonly #kernel: Pick<Kernel, "observe"> & { openMissSocket(namespace: NamespaceRef): Promise<number> };
  readonly #watchers = new Map<number, Watcher>();
  #thread: { readonly worker: Worker; readonly memory: Int32Array; readonly end: () => void } | undefined;
  #id = 0;

  constructor(kernel: Pick<Kernel, "observe"> & { openMissSocket(namespace: NamespaceRef): Promise<number> }) {
    this.#kernel = kernel;
  }

  async *watch(namespace: NamespaceRef, signal: AbortSignal): AsyncIterable<Miss> {
    if (signal.aborted) return;
    const observed = await this.#kernel.observe(namespace);
    const fd = await this.#kernel.openMissSocket(namespace);
    const id = ++this.#id;
    const devices = new Map(observed?.links.map(({ index, name }) => [index, name]));
    const watcher: Watcher = { devices, queue: [], ring: () => undefined };
    this.#watchers.set(id, watcher);
    const stop = (): void => watcher.ring();
    signal.addEventListener("abort", stop);
    this.#tell({ kind: "add", id, fd });
    try {
      while (!signal.aborted) {
        const miss = watcher.queue.shift();
        if (miss) yield miss;
        else if (watcher.failure) throw watcher.failure;
        else await new Promise<void>((resolve) => (watcher.ring = resolve));
      }
    } finally {
      signal.removeEventListener("abort", stop);
      this.#watchers.delete(id);
      if (!watcher.failure) this.#tell({ kind: "remove", id });
    }
  }

  /** Ends every watch. */
  async close(): Promise<void> {
    const thread = this.#thread;
    if (!thread) return;
    const ended = new Promise((resolve) => thread.worker.once("exit", resolve));
    thread.end();
    await ended;
  }

  #tell(request: MissRequest): void {
    const { worker, memory } = this.#start();
    worker.postMessage(request);
    // Where there is nothing to write to yet, the worker looks at its messages before it waits.
    const wake = Atomics.load(memory, shared.wake);
    if (wake !== 0) writeSync(wake, one);
  }

  #start(): { readonly worker: Worker; readonly memory: Int32Array } {
    if (this.#thread) return this.#thread;
    const memory = new Int32Array(new SharedArrayBuffer(8));
    const resourceLimits = { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 32 };
    const worker = new Worker(workerUrl("miss-worker"), { name: "misses", workerData: memory.buffer, resourceLimits });
    // The process must not wait for a thread that waits in the kernel.
    const end = (): void => {
      Atomics.store(memory, shared.ended, 1);
      const wake = Atomics.load(memory, shared.wake);
      if (wake !== 0) writeSync(wake, one);
    };
    process.once("exit", end);
    worker.unref();
    worker.on("message", (report: MissReport) => this.#receive(report));
    let reason = "it was stopped";
    worker.on("error", (error) => {
      reason = errorText(error);
    });
    worker.on("exit", () => {
      process.off("exit", end);
      const wake = Atomics.load(memory, shared.wake);
      if (wake !== 0) closeSync(wake);
      this.#thread = undefined;
      for (const watcher of this.#watchers.values()) {
        watcher.failure = noService("miss-worker", `the watch for misses ended: ${reason}`);
        watcher.ring();
      }
      this.#watchers.clear();
    });
    this.#thread = { worker, memory, end };
    return this.#thread;
  }

  #receive({ id, link, ip, mac }: MissReport): void {
    const watcher = this.#watchers.get(id);
    if (!watcher || watcher.queue.length >= queueLength) return;
    const device = watcher.devices.get(link);
    const at = device === undefined ? {} : { device };
    if (ip !== undefined) watcher.queue.push({ kind: "l3", ip, ...at });
    else if (mac !== undefined) watcher.queue.push({ kind: "l2", mac, ...at });
    watcher.ring();
  }
}
