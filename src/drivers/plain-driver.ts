import { plan } from "../linux/plan.ts";
import type { NetworkDriver } from "./driver.ts";
import { refuseUnknown } from "./options.ts";

const nothing = plan();

/** A driver that makes no kernel objects; `host`, `null` and `test` differ only in what they declare. */
export const plainDriver = (
  declared: Pick<NetworkDriver, "name" | "scope" | "usesIpam" | "singleton" | "hasWayOut">,
): NetworkDriver => ({
  ...declared,
  checkNetwork(network) {
    refuseUnknown(declared.name, network.options, []);
    return network.options;
  },
  createNetwork: () => nothing,
  deleteNetwork: () => nothing,
  attach: () => ({ attach: nothing, detach: nothing, gateways: [] }),
  firewall: () => undefined,
});
