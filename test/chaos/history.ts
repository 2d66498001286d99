/** What clients did and saw, as they recorded it: the only thing that the checker believes. */

/**
 * `ok`: acknowledged. `refused`: it did not happen (HTTP 4xx, or it was never sent). `unknown`: nobody said; it may have happened, and may
 * still happen after its end.
 */
export type Outcome = "ok" | "refused" | "unknown";

interface Recorded {
  /** The node that was asked. */
  readonly node: string;
  /** Milliseconds on one clock: before the request was sent, after the answer had come. */
  readonly begin: number;
  readonly end: number;
  readonly outcome: Outcome;
  /** What was answered, for people. */
  readonly text?: string;
}

export interface SeenNetwork {
  readonly id: string;
  readonly name: string;
  readonly driver: string;
  readonly scope: string;
  readonly subnets: readonly { readonly pool: string; readonly vni?: number }[];
}

export interface SeenService {
  readonly id: string;
  readonly name: string;
  readonly network: string;
  readonly addresses: readonly string[];
  /** Shown by the node that the sandbox is on. */
  readonly sandbox?: string;
}

export type Action =
  | { readonly kind: "create-network"; readonly id: string; readonly name: string; readonly driver: string }
  | { readonly kind: "remove-network"; readonly id: string }
  /** `id` where it was acknowledged. */
  | { readonly kind: "publish"; readonly network: string; readonly name: string; readonly id?: string }
  | { readonly kind: "unpublish"; readonly id: string; readonly force: boolean }
  | { readonly kind: "attach"; readonly endpoint: string; readonly sandbox: string }
  | { readonly kind: "detach"; readonly endpoint: string; readonly sandbox: string }
  | { readonly kind: "create-sandbox"; readonly container: string; readonly id?: string }
  | { readonly kind: "remove-sandbox"; readonly id: string };

/** Reads that the node itself called out of date are not recorded: they promise nothing. */
export type Read =
  | { readonly kind: "read-networks"; readonly networks: readonly SeenNetwork[] }
  | { readonly kind: "read-services"; readonly services: readonly SeenService[] }
  | { readonly kind: "read-sandboxes"; readonly sandboxes: readonly string[] };

export type Event = Recorded & (Action | Read);
export type EventOf<K extends Event["kind"]> = Extract<Event, { readonly kind: K }>;

/** When an operation has certainly had the effect that it will have. */
export const settledAt = (event: Event): number => (event.outcome === "unknown" ? Number.POSITIVE_INFINITY : event.end);
