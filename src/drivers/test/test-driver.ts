import type { NetworkDriver } from "../driver.ts";
import { plainDriver } from "../plain-driver.ts";

/** Driver `test`: global scope, touches nothing; for trying out the store and the model without any kernel object. */
export const testDriver = (): NetworkDriver =>
  plainDriver({ name: "test", scope: "global", usesIpam: true, singleton: false, hasWayOut: true });
