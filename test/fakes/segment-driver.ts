import type { NetworkDriver } from "../../src/drivers/driver.ts";
import { plainDriver } from "../../src/drivers/plain-driver.ts";
import { hostNamespace, type Operation, plan } from "../../src/linux/plan.ts";
import { addressOf } from "../../src/net/prefix.ts";

/** A driver of networks that span hosts, reduced to what the controller sees of one. */
export const segmentDriver = (): NetworkDriver => ({
  ...plainDriver({ name: "segment", scope: "global", usesIpam: true, singleton: false, hasWayOut: false }),
  checkNetwork: ({ options }) => options,
  segments: { first: 256, last: 300, fixed: ({ ids }) => ids?.split(",").map(Number) },
  presence: {
    create: ({ id }, { namespaceDir }) => plan({ op: "namespace.add", path: `${namespaceDir}/1-${id.slice(0, 10)}` }),
    remove: ({ id }, { namespaceDir }) =>
      plan({ op: "namespace.delete", path: `${namespaceDir}/1-${id.slice(0, 10)}` }),
  },
  peers: {
    add: ({ name }, _host, { addresses, mac, vtep }) =>
      plan(
        ...addresses.map((address): Operation => {
          return { op: "neighbor.add", namespace: hostNamespace, device: name, ip: addressOf(address), mac };
        }),
        { op: "fdb.add", namespace: hostNamespace, device: name, mac, destination: vtep },
      ),
    remove: ({ name }, _host, { mac, vtep }) =>
      plan({ op: "fdb.delete", namespace: hostNamespace, device: name, mac, destination: vtep }),
    hosts: () => plan(),
  },
});
