import { Libnetwork } from "../../src/controller/libnetwork.ts";
import { bridgeDriver } from "../../src/drivers/bridge/bridge-driver.ts";
import { hostDriver } from "../../src/drivers/host/host-driver.ts";
import { nullDriver } from "../../src/drivers/null/null-driver.ts";
import { testDriver } from "../../src/drivers/test/test-driver.ts";
import { DefaultIpam } from "../../src/ipam/default/default-ipam.ts";
import { SparseAddressSet } from "../../src/ipam/default/sparse-address-set.ts";
import { MemoryStore } from "../../src/store/memory/memory-store.ts";
import { FakeKernel } from "./fake-kernel.ts";
import { FakeNaming } from "./fake-naming.ts";
import { FakeProbe } from "./fake-probe.ts";

export interface FakeLibnetwork {
  readonly libnetwork: Libnetwork;
  readonly kernel: FakeKernel;
  readonly naming: FakeNaming;
}

/** The real controller over a store, a kernel and names in memory: its texts are those of the daemon. */
export const openFakeLibnetwork = async (): Promise<FakeLibnetwork> => {
  const store = new MemoryStore();
  const kernel = new FakeKernel();
  const naming = new FakeNaming();
  const libnetwork = await Libnetwork.open({
    stores: { local: store, global: store },
    kernel,
    drivers: [bridgeDriver(), hostDriver(), nullDriver(), testDriver()],
    ipam: new DefaultIpam(),
    newAddressSet: () => new SparseAddressSet(),
    naming: () => naming,
    probe: new FakeProbe(),
    namespaceDir: "/var/run/docker/netns",
    avoid: async () => [],
  });
  return { libnetwork, kernel, naming };
};
