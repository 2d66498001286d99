import { Libnetwork } from "../../src/controller/libnetwork.ts";
import { bridgeDriver } from "../../src/drivers/bridge/bridge-driver.ts";
import { testDriver } from "../../src/drivers/test/test-driver.ts";
import { DefaultIpam } from "../../src/ipam/default/default-ipam.ts";
import { SparseAddressSet } from "../../src/ipam/default/sparse-address-set.ts";
import { parsePrefix } from "../../src/net/prefix.ts";
import { MemoryStore } from "../../src/store/memory/memory-store.ts";
import type { Store } from "../../src/store/store.ts";
import { FakeKernel } from "../fakes/fake-kernel.ts";
import { FakeNaming } from "../fakes/fake-naming.ts";

/** A node's controller over a shared store that is real; its kernel and its local store are not. */
export const controllerOn = (global: Store): Promise<Libnetwork> =>
  Libnetwork.open({
    stores: { local: new MemoryStore(), global },
    kernel: new FakeKernel(),
    drivers: [bridgeDriver(), testDriver()],
    ipam: new DefaultIpam({ ula: parsePrefix("fd00:1:2::/48") }),
    newAddressSet: () => new SparseAddressSet(),
    naming: () => new FakeNaming(),
    namespaceDir: "/run/netns",
    avoid: async () => [],
    defaultNetwork: "",
  });
