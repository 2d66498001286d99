import { NetworkError } from "../errors.ts";
import type { Kernel } from "./kernel.ts";
import type { Miss, MissWatch } from "./miss-watch.ts";
import { rtm } from "./netlink/constants.ts";
import { decodeMessages } from "./netlink/message.ts";
import { decodeNeighbor } from "./netlink/neighbor.ts";
import type { NamespaceRef } from "./plan.ts";
import { listenForReadable, readDatagrams } from "./readable.ts";

/** The same miss is told again after this time (ms). */
const quiet = 1_000;
/** Misses that are read in a second, and that wait for a slow reader: a sandbox can make as many as it likes. */
const bound = 1_000;

type MissSockets = Pick<Kernel, "observe"> & { openMissSocket(namespace: NamespaceRef): Promise<number> };

/** The miss watch on sockets that the kernel worker opens inside the namespaces. */
export class NetlinkMissWatch implements MissWatch {
  readonly #kernel: MissSockets;

  constructor(kernel: MissSockets) {
    this.#kernel = kernel;
  }

  async *watch(namespace: NamespaceRef, signal: AbortSignal): AsyncIterable<Miss> {
    listenForReadable();
    const observed = await this.#kernel.observe(namespace);
    // Names of the devices at the time when the watch begins.
    const devices = new Map(observed?.links.map(({ index, name }) => [index, name]));
    const fd = await this.#kernel.openMissSocket(namespace);
    const queue = new MissQueue();
    const stop = readDatagrams(fd, (bytes) => bytes && queue.put(missesIn(bytes, devices)), bound);
    try {
      for (let miss = await queue.take(signal); miss; miss = await queue.take(signal)) yield miss;
    } finally {
      stop();
    }
  }
}

/** Misses that wait to be taken; one that was put a moment ago is left out, and so is what is too much: the next packet misses again. */
class MissQueue {
  readonly #waiting: Miss[] = [];
  readonly #seen = new Set<string>();
  #since = Date.now();
  #ring: () => void = () => undefined;

  put(misses: readonly Miss[]): void {
    if (Date.now() - this.#since >= quiet) {
      this.#since = Date.now();
      this.#seen.clear();
    }
    for (const miss of misses) {
      const key = miss.kind === "l2" ? miss.mac : miss.ip;
      if (this.#seen.has(key) || this.#waiting.length >= bound) continue;
      this.#seen.add(key);
      this.#waiting.push(miss);
    }
    this.#ring();
  }

  /** The next one; undefined once the signal aborts. */
  async take(signal: AbortSignal): Promise<Miss | undefined> {
    while (!signal.aborted) {
      const miss = this.#waiting.shift();
      if (miss) return miss;
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          signal.removeEventListener("abort", wake);
          resolve();
        };
        this.#ring = wake;
        signal.addEventListener("abort", wake);
      });
    }
    return undefined;
  }
}

const missesIn = (bytes: Buffer, devices: ReadonlyMap<number, string>): readonly Miss[] => {
  try {
    return decodeMessages(bytes).flatMap(({ type, body }): readonly Miss[] => {
      if (type !== rtm.GETNEIGH) return [];
      const { ip, mac, index } = decodeNeighbor(body);
      const device = devices.get(index);
      const at = device === undefined ? {} : { device };
      if (ip !== undefined) return [{ kind: "l3", ip, ...at }];
      return mac === undefined ? [] : [{ kind: "l2", mac, ...at }];
    });
  } catch (error) {
    if (error instanceof NetworkError) return [];
    throw error;
  }
};
