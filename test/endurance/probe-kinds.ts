/** What is sent between the processes of a live restart's probes. */

/** A sandbox with a TCP and a UDP server inside, published on ports of the host. */
export interface ProbedSandbox {
  readonly name: string;
  /** Path of its namespace. */
  readonly key: string;
  readonly address: string;
  readonly tcpPort: number;
  readonly udpPort: number;
}

export interface ProbeOrder {
  readonly sandboxes: readonly ProbedSandbox[];
  /** Address of the host as the world outside knows it. */
  readonly host: string;
  /** Pairs of places in `sandboxes`: the first speaks to the second. */
  readonly pairs: readonly (readonly [number, number])[];
}

export const probeKinds = ["udp port", "tcp port", "kept connection", "sandbox to sandbox"] as const;
export type ProbeKind = (typeof probeKinds)[number];

export interface Counted {
  readonly sent: number;
  /** Not answered `patience` after they were sent, or refused. */
  readonly lost: number;
  /** Milliseconds, of those that were answered. */
  readonly longest: number;
}

export interface ProbeReport {
  readonly kinds: Readonly<Record<ProbeKind, Counted>>;
  readonly retransmissions: number;
  /** Datagrams that the prober itself was too slow to read. */
  readonly overflows: number;
  /** The first that were lost. */
  readonly losses: readonly string[];
}

/** When names were answered again (milliseconds since the epoch), of each sandbox that was asked. */
export interface NamesReport {
  readonly asked: number;
  /** By a client with a socket for each question. */
  readonly fresh: readonly number[];
  /** By a client that asks from the same port all the time. */
  readonly kept: readonly number[];
}

export type ProbeRequest =
  | { readonly do: "open"; readonly order: ProbeOrder }
  /** Begins to ask for names; the report comes when all were answered. */
  | { readonly do: "ask-names"; readonly fresh: boolean }
  | { readonly do: "names" }
  /** Ends probing, waits for what is under way, and counts. */
  | { readonly do: "report" };
