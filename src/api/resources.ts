/** What the REST API answers: the original's fields first, then ours. Types only: the command line imports this. */

export interface EndpointSummary {
  readonly name: string;
  readonly id: string;
  readonly network: string;
}

export interface SubnetResource {
  readonly subnet: string;
  readonly ip_range?: string;
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
