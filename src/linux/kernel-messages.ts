import type { ErrorKind } from "../errors.ts";
import type { ForwardDrop } from "./forward-drops.ts";
import type { NeighborTable, Observed, OpenedSocket, SocketRequest, TableDifference } from "./kernel.ts";
import type { LookupQuery, LookupResult } from "./lookup.ts";
import type { NeighborEntry } from "./neighbor-entries.ts";
import type { Topic } from "./notification-sockets.ts";
import type { NamespaceRef, Operation, Plan } from "./plan.ts";

/** What the main thread and the kernel worker say to each other. */
export type KernelRequest = { readonly id: number } & (
  | { readonly kind: "apply" | "teardown"; readonly plan: Plan }
  | { readonly kind: "observe"; readonly namespace: NamespaceRef; readonly of?: "addressed" | undefined }
  | { readonly kind: "entries" | "miss-socket"; readonly namespace: NamespaceRef }
  | { readonly kind: "compare"; readonly script: string; readonly tables: readonly string[] }
  | { readonly kind: "watch"; readonly topic: Topic }
  | { readonly kind: "neighbors" | "forward-drops" }
  | { readonly kind: "port-owner"; readonly protocol: "tcp" | "udp" | "sctp"; readonly port: number }
  /** The last request: everything that the worker holds open is closed. */
  | { readonly kind: "close" }
  | { readonly kind: "hold"; readonly table: string }
  | { readonly kind: "lookup"; readonly namespace: NamespaceRef; readonly query: LookupQuery }
  | { readonly kind: "sockets"; readonly namespace: NamespaceRef; readonly sockets: readonly SocketRequest[] }
);

/** A NetworkError as data: errors lose their class between threads. */
export interface ErrorData {
  readonly kind: ErrorKind;
  readonly code: string;
  readonly message: string;
  readonly hint?: string;
  readonly errno?: number;
}

/** A plan that takes long is still being carried out. */
export interface KernelProgress {
  readonly kind: "progress";
}

export interface KernelReply {
  readonly id: number;
  readonly errors: readonly ErrorData[];
  /** What was done, in order: an operation's place in the plan, or the operation where it knows more now (a value before). */
  readonly done?: readonly (number | Operation)[];
  readonly undone?: readonly Operation[];
  readonly observed?: Observed | undefined;
  readonly sockets?: readonly OpenedSocket[];
  readonly found?: LookupResult | undefined;
  readonly entries?: readonly NeighborEntry[] | undefined;
  /** Process ids of the batches by which the host's rules were changed. */
  readonly batches?: readonly number[];
  readonly forwardDrops?: readonly ForwardDrop[];
  readonly portOwner?: string | undefined;
  readonly neighborTables?: readonly NeighborTable[];
  readonly differences?: readonly TableDifference[];
}
