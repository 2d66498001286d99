/** What a lab looks like at one moment; what its supervisor answers, what `dnet lab ls --format json` prints. */

/** `storeless`: several hosts that know each other by gossip alone. */
export const storeKinds = ["consul", "etcd", "embedded-single", "storeless"] as const;
export type StoreKind = (typeof storeKinds)[number];
/** Those that are servers. */
export type ServerKind = Exclude<StoreKind, "embedded-single" | "storeless">;
export const isServer = (kind: StoreKind): kind is ServerKind => kind === "consul" || kind === "etcd";

/** A set of namespaces that stands for a machine. */
export interface PlaceState {
  /** `dnet-1`, `store`, `outside`. */
  readonly name: string;
  readonly address: string;
  /** Of the first process inside, as its caller sees it: what `nsenter --target` takes. */
  readonly pid: number;
}

export interface LabHostState extends PlaceState {
  /** Where the caller reaches the daemon: `tcp://127.0.0.1:41000`. */
  readonly api: string;
  readonly daemon: "running" | "stopped";
}

export interface LabStoreState extends PlaceState {
  readonly kind: ServerKind;
  /** `172.17.0.2:8500`, from inside. */
  readonly endpoint: string;
  readonly server: "running" | "stopped";
}

export interface LabState {
  readonly name: string;
  /** Logs, configurations and sockets: a directory for each host. */
  readonly directory: string;
  readonly supervisor: number;
  /** The lab belongs to an ordinary user and has a user namespace of its own. */
  readonly userNamespace: boolean;
  /** The LAN's own namespace, where its bridge is. */
  readonly lan: PlaceState;
  readonly outside: PlaceState;
  readonly store?: LabStoreState;
  readonly hosts: readonly LabHostState[];
  /** Pairs that do not reach each other. */
  readonly partitions: readonly (readonly [string, string])[];
}
