import type { NetworkDriver } from "../driver.ts";
import { plainDriver } from "../plain-driver.ts";

/** Driver `null`: a sandbox with a loopback and nothing else; one network of the kind. */
export const nullDriver = (): NetworkDriver =>
  plainDriver({ name: "null", scope: "local", usesIpam: false, singleton: true, hasWayOut: true });
