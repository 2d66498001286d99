import type { ClusterNode } from "../../src/cluster/merge-nodes.ts";
import type { Diagnosis } from "../../src/controller/doctor/diagnosis.ts";
import type { Libnetwork } from "../../src/controller/libnetwork.ts";
import { createLibnetwork } from "../../src/create-libnetwork.ts";
import { Faults } from "../../src/faults/faults.ts";
import { faultySeams } from "../../src/faults/faulty-seams.ts";
import { parseIp } from "../../src/net/ip.ts";
import { EtcdStore } from "../../src/store/etcd/etcd-store.ts";
import type { Store } from "../../src/store/store.ts";

/** A node that exists in records only, and will not come back. */
export const gone: ClusterNode = {
  id: "0a0a0b02",
  name: "far",
  address: parseIp("10.9.0.2"),
  vtep: parseIp("10.9.0.2"),
  version: "0",
  state: "left",
  self: false,
};

/** A controller that can be made to fail, on the test's own host. */
export class Subject {
  readonly faults = new Faults();
  readonly log: string[] = [];
  defaultNetwork = "";
  readonly #etcd: string | undefined;
  readonly #stores = new Map<string, Store>();
  #global: Store | undefined;
  #open: Libnetwork | undefined;

  /** @param etcd address and prefix of the store of global scope; absent: the embedded store serves both */
  constructor(etcd: string | undefined) {
    this.#etcd = etcd;
  }

  get net(): Libnetwork {
    if (!this.#open) throw new Error("not open");
    return this.#open;
  }

  /** The stores behind the seams. */
  get stores(): readonly Store[] {
    return [...this.#stores.values()];
  }

  /** Opens it where it is not. */
  async open(): Promise<void> {
    if (this.#open) return;
    const seams = faultySeams(this.faults);
    if (this.#etcd !== undefined && !this.#global) {
      const prefix = this.#etcd.slice(this.#etcd.indexOf("/") + 1);
      this.#global = await EtcdStore.open({ address: [this.#etcd], prefix, timeout: 10_000 });
    }
    this.#open = await createLibnetwork({
      defaultNetwork: this.defaultNetwork,
      // What it puts right by itself would be missing from an operation's points, now and then.
      repairEvery: 0,
      place: () => ({ vtep: parseIp("10.9.0.1"), overlayHostMode: false }),
      ...(this.#global && { globalStore: this.#global }),
      seams: {
        ...seams,
        store: (scope, store) => {
          this.#stores.set(scope, store);
          return seams.store(scope, store);
        },
      },
      log: (level, message) => {
        if (level !== "debug") this.log.push(`${level}: ${message}`);
      },
    });
  }

  async close(): Promise<void> {
    const open = this.#open;
    this.#open = undefined;
    await open?.close();
    this.#stores.clear();
  }

  /** What `dnet doctor` finds. @throws Error where a check could not be made, nor a moment later */
  async findings(): Promise<Diagnosis["findings"]> {
    for (const end = performance.now() + 30_000; ; ) {
      const { findings, unchecked } = await this.net.diagnose([gone]);
      if (unchecked.length === 0) return findings;
      // A shared store that failed once counts as away until its watch has told something.
      if (performance.now() > end) throw new Error(`not checked: ${JSON.stringify(unchecked)}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async end(): Promise<void> {
    await this.close();
    await this.#global?.close();
  }
}
