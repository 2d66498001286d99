import type { Ip } from "../net/ip.ts";
import type { Mac } from "../net/mac.ts";
import type { NamespaceRef } from "./plan.ts";

/** What a VXLAN device with `l2miss` or `l3miss` did not know: where a MAC is, or whose an address is. */
export type Miss =
  | { readonly kind: "l2"; readonly mac: Mac; readonly device?: string }
  | { readonly kind: "l3"; readonly ip: Ip; readonly device?: string };

/** The kernel's miss notifications (`RTM_GETNEIGH` to group `RTNLGRP_NEIGH`), as they happen. */
export interface MissWatch {
  /**
   * The misses in a namespace until the signal aborts. The same miss comes at most once a second; where there are more than
   * can be taken, some are left out: the next packet misses again. A watch keeps its namespace alive: end it first.
   * @throws NetworkError `no-namespace`
   */
  watch(namespace: NamespaceRef, signal: AbortSignal): AsyncIterable<Miss>;
}

/** The line of the debug log, as in the original. */
export const missText = (miss: Miss): string =>
  `Miss notification, ${miss.kind === "l2" ? `l2 mac ${miss.mac}` : `l3 ip ${miss.ip}`}`;
