import type { PortProtocol } from "../linux/firewall-ports.ts";
import { familyOf, type Ip } from "../net/ip.ts";

/** Published ports as they are asked for and as they are given. */

export type { PortProtocol } from "../linux/firewall-ports.ts";

/** Ports that programs in a sandbox serve. */
export interface ExposedPort {
  readonly protocol: PortProtocol;
  /** The first of `count` ports in the sandbox. */
  readonly port: number;
  readonly count: number;
}

/** What somebody asks for. */
export interface PortRequest extends ExposedPort {
  /** Absent: the network's default, which is every address of the host. */
  readonly hostAddress?: Ip;
  /** Absent: one is chosen from the host's ephemeral ports. */
  readonly hostPort?: number;
  /** With a `count` of 1: the last port of the range in which one is chosen. Else the range has `count` ports. */
  readonly hostPortEnd?: number;
}

/** What was given: a run of ports of the host and the run of ports in the sandbox that they lead to. */
export interface PublishedPort extends ExposedPort {
  /** Absent: every address of the host, both families. */
  readonly hostAddress?: Ip;
  readonly hostPort: number;
}

/** Runs that continue each other become one. */
export const joinRuns = (ports: readonly PublishedPort[]): readonly PublishedPort[] => {
  const result: PublishedPort[] = [];
  for (const next of ports) {
    const last = result.at(-1);
    if (
      last &&
      last.protocol === next.protocol &&
      last.hostAddress === next.hostAddress &&
      last.port + last.count === next.port &&
      last.hostPort + last.count === next.hostPort
    ) {
      result[result.length - 1] = { ...last, count: last.count + next.count };
    } else result.push(next);
  }
  return result;
};

export const isWildcard = (address: Ip): boolean => address === "0.0.0.0" || address === "::";

/** True where two bindings of one port exclude each other; absent is every address of both families. */
export const bindingsOverlap = (a: Ip | undefined, b: Ip | undefined): boolean => {
  if (a === undefined || b === undefined) return true;
  return familyOf(a) === familyOf(b) && (a === b || isWildcard(a) || isWildcard(b));
};

/** Ports of all runs together. */
export const portCount = (runs: readonly { readonly count: number }[]): number =>
  runs.reduce((sum, { count }) => sum + count, 0);
