/** What the REST API answers: the original's fields first, then ours. Types only: the command line imports this. */

export interface EndpointSummary {
  readonly name: string;
  readonly id: string;
  readonly network: string;
}

export interface SubnetResource {
  readonly subnet: string;
  readonly ip_range?: string;
  /** Segment id of a VXLAN. */
  readonly vni?: number;
  readonly gateway?: string;
}

export interface NetworkResource {
  readonly name: string;
  readonly id: string;
  readonly type: string;
  readonly endpoints: readonly EndpointSummary[];
  /** From here on ours: absent in answers of the original's daemon. */
  readonly scope?: "local" | "global";
  readonly internal?: boolean;
  readonly ipv6?: boolean;
  readonly created?: string;
  readonly subnets?: readonly SubnetResource[];
  readonly options?: Readonly<Record<string, string>>;
  readonly labels?: Readonly<Record<string, string>>;
}

/** An endpoint; the CLI and the routes under /services call it a service. */
export interface ServiceResource extends EndpointSummary {
  readonly network_id?: string;
  readonly addresses?: readonly string[];
  readonly mac_address?: string;
  readonly aliases?: readonly string[];
  readonly created?: string;
  readonly container_id?: string;
  readonly sandbox_id?: string;
  readonly interface?: string;
  /** Where it is attached, where that is another node; of one that is gone, the service stays until it is unpublished by force. */
  readonly node?: {
    readonly id: string;
    readonly name: string;
    readonly state: "alive" | "gone" | "left" | "unknown";
  };
}

/** A daemon of the cluster. */
export interface NodeResource {
  /** Eight hex digits. */
  readonly id: string;
  readonly name: string;
  readonly address: string;
  readonly state: "alive" | "gone" | "left";
  readonly version: string;
  /** True for the node that answers. */
  readonly self: boolean;
  readonly vtep?: string;
  /** Since when it is in its state. */
  readonly since?: string;
  readonly started?: string;
  readonly heartbeat?: string;
  readonly boot_id?: string;
  readonly serf_port?: number;
  readonly serf_name?: string;
  readonly serf_status?: string;
  readonly rtt_ms?: number;
}

/** The rules of the firewall that matter to a network or a port, and why. */
export interface FirewallResource {
  readonly backend: "nftables" | "none";
  readonly table?: string;
  /** Tables beside it that the rules are in. */
  readonly tables?: readonly string[];
  readonly summary: readonly string[];
  readonly elements: readonly { readonly set: string; readonly element: string; readonly purpose: string }[];
  readonly rules: readonly {
    readonly chain: string;
    readonly hook?: string;
    readonly rule: string;
    readonly reason: string;
  }[];
}

/** A run of ports of the host and what they lead to. */
export interface PublishedPortResource {
  readonly protocol: string;
  /** Absent: every address of the host, both families. */
  readonly host_address?: string;
  readonly host_port: number;
  readonly host_port_end?: number;
  readonly port: number;
  readonly port_end?: number;
  /** As tables show it: `0.0.0.0:8080->80/tcp`. */
  readonly text: string;
}

export interface SandboxResource {
  readonly id: string;
  readonly key: string;
  readonly container_id: string;
  readonly host_name?: string;
  readonly domain_name?: string;
  readonly created?: string;
  /** Ids of the endpoints attached, in the order they joined. */
  readonly endpoints?: readonly string[];
  /** Ports asked for, as they are typed: `8080:80/tcp`. */
  readonly ports?: readonly string[];
  readonly exposed_ports?: readonly string[];
  /** Ports of the host that lead to the sandbox at present. */
  readonly published_ports?: readonly PublishedPortResource[];
}

/** A kernel object that makes something up, with the commands that would create it. */
export interface ExplainedOperationResource {
  readonly what: string;
  readonly operation: string;
  /** One command a line. */
  readonly command: string;
}

export interface ExplanationResource {
  readonly operations: readonly ExplainedOperationResource[];
  /** How many more there are. */
  readonly omitted: number;
  readonly note?: string;
}

/** A packet's way from a container to a destination. */
export interface TraceResource {
  readonly destination: string;
  readonly hops: readonly { readonly where: string; readonly what: string; readonly command?: string }[];
  /** Where it would be lost; absent where nothing seen from this host stops it. */
  readonly lost?: { readonly reason: string; readonly hint?: string };
  readonly ping?: { readonly sent: number; readonly received: number; readonly average?: number };
}

/** One difference between what should be and what is. */
export interface FindingResource {
  readonly code: string;
  readonly subject: string;
  readonly what: string;
  readonly expected: string;
  readonly consequence: string;
  readonly remedy: string;
  readonly repairable: boolean;
}

export interface DiagnosisResource {
  readonly findings: readonly FindingResource[];
  readonly checked: readonly string[];
  /** What could not be looked at, and why. */
  readonly unchecked: readonly { readonly check: string; readonly reason: string }[];
}

export interface RepairResource {
  readonly before: DiagnosisResource;
  readonly done: readonly string[];
  readonly after: DiagnosisResource;
}

/** What nodes that will not come back have left in the shared store. */
export interface GarbageResource {
  /** False where it was only looked for. */
  readonly removed: boolean;
  readonly garbage: readonly {
    readonly node: string;
    readonly name: string;
    readonly kind: "node" | "claim" | "service";
    readonly what: string;
  }[];
}
