import { internal } from "../../errors.ts";
import { plan } from "../../linux/plan.ts";
import type { NetworkDriver } from "../driver.ts";
import { attachEndpoint } from "./attach.ts";
import { filterTableOf } from "./member-filter.ts";
import { checkOptions, fixedIds, vni } from "./options.ts";
import { peerAdd, peerHosts, peerPlace, peerRemove } from "./peers.ts";
import { presenceCreate, presenceRemove, presenceRemoveRemains } from "./presence.ts";

const nothing = plan();

/** Driver `overlay`: VXLAN segments between hosts, one namespace a network and host. */
export const overlayDriver = (): NetworkDriver => ({
  name: "overlay",
  scope: "global",
  usesIpam: true,
  singleton: false,
  hasWayOut: false,
  checkNetwork: checkOptions,
  // A network costs a host nothing until one of its sandboxes joins.
  createNetwork: () => nothing,
  deleteNetwork: () => nothing,
  attach(network, endpoint, sandbox, host) {
    if (host === undefined) throw internal("no-host", "the overlay driver must be told which host it is on");
    return attachEndpoint(network, endpoint, sandbox, host);
  },
  firewall: () => undefined,
  segments: { first: vni.first, last: vni.last, fixed: fixedIds },
  presence: {
    create: presenceCreate,
    remove: presenceRemove,
    removeRemains: presenceRemoveRemains,
    firewall: filterTableOf,
  },
  peers: { add: peerAdd, remove: peerRemove, place: peerPlace, hosts: peerHosts },
});
