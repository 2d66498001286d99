import type { LibnetworkOptions } from "../../src/controller/assemble.ts";
import { Libnetwork } from "../../src/controller/libnetwork.ts";
import type { State } from "../../src/controller/state.ts";
import { bridgeDriver } from "../../src/drivers/bridge/bridge-driver.ts";
import type { Scope } from "../../src/drivers/driver.ts";
import { hostDriver } from "../../src/drivers/host/host-driver.ts";
import { nullDriver } from "../../src/drivers/null/null-driver.ts";
import { testDriver } from "../../src/drivers/test/test-driver.ts";
import { DefaultIpam } from "../../src/ipam/default/default-ipam.ts";
import { SparseAddressSet } from "../../src/ipam/default/sparse-address-set.ts";
import { parsePrefix } from "../../src/net/prefix.ts";
import { MemoryStore } from "../../src/store/memory/memory-store.ts";
import { FakeKernel } from "./fake-kernel.ts";
import { FakeNaming } from "./fake-naming.ts";
import { FakeProbe } from "./fake-probe.ts";

export type OpenControllerOptions = Partial<Omit<LibnetworkOptions, "stores" | "kernel" | "naming">> & {
  readonly kernel?: FakeKernel;
  readonly naming?: FakeNaming;
  /** One store for both scopes where only `local` is given. */
  readonly stores?: { readonly local: MemoryStore; readonly global?: MemoryStore };
};

export interface LogLine {
  readonly level: string;
  readonly message: string;
}

/** A controller on fakes, and all of them. */
export class Opened {
  readonly stores: Readonly<Record<Scope, MemoryStore>>;
  readonly kernel: FakeKernel;
  readonly naming: FakeNaming;
  readonly probe = new FakeProbe();
  readonly lines: LogLine[] = [];
  /** The records as the controller knows them. */
  state: State | undefined;
  readonly #options: OpenControllerOptions;
  #libnetwork: Libnetwork | undefined;

  constructor(options: OpenControllerOptions) {
    const local = options.stores?.local ?? new MemoryStore();
    this.stores = { local, global: options.stores?.global ?? local };
    this.kernel = options.kernel ?? new FakeKernel();
    this.naming = options.naming ?? new FakeNaming();
    this.#options = options;
  }

  get libnetwork(): Libnetwork {
    if (!this.#libnetwork) throw new Error("the controller is not open");
    return this.#libnetwork;
  }

  /** A new controller over the same store and kernel, as after a crash: the old one is told nothing. */
  async reopen(): Promise<Libnetwork> {
    this.naming.running.clear();
    this.#libnetwork = await Libnetwork.open({
      drivers: [bridgeDriver(), hostDriver(), nullDriver(), testDriver()],
      ipam: new DefaultIpam({ ula: parsePrefix("fd00:1:2::/48") }),
      newAddressSet: () => new SparseAddressSet(),
      namespaceDir: "/run/netns",
      avoid: async () => [],
      defaultNetwork: "",
      probe: this.probe,
      ...this.#options,
      stores: this.stores,
      kernel: this.kernel,
      naming: (state) => {
        this.state = state;
        return this.naming;
      },
      log: (level, message) => this.lines.push({ level, message }),
    });
    return this.#libnetwork;
  }

  /** All keys of both stores, without the host's own. */
  async keys(): Promise<readonly string[]> {
    const lists = await Promise.all([this.stores.local.list("local/"), this.stores.global.list("global/")]);
    return lists.flat().map(({ key }) => key);
  }
}

/** Opens a controller on fakes; without options of one's own it makes no default network. */
export const openController = async (options: OpenControllerOptions = {}): Promise<Opened> => {
  const opened = new Opened(options);
  await opened.reopen();
  return opened;
};
