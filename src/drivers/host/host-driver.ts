import type { NetworkDriver } from "../driver.ts";
import { plainDriver } from "../plain-driver.ts";

/** Driver `host`: the sandbox is the host's own stack; nothing is made, one network of the kind. */
export const hostDriver = (): NetworkDriver =>
  plainDriver({ name: "host", scope: "local", usesIpam: false, singleton: true, hasWayOut: true });
