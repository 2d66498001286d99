import type { Ip } from "../net/ip.ts";

/** Where a sandbox is reached, by family; changes when another endpoint carries its ports. */
export interface RelayTarget {
  address4: Ip | undefined;
  address6: Ip | undefined;
}

/** True for clients on the loopback; an IPv6 socket shows IPv4 clients as `::ffff:127.0.0.1`. */
export const isLoopback = (address: string | undefined): boolean =>
  address !== undefined && (address === "::1" || /^(::ffff:)?127\.\d+\.\d+\.\d+$/.test(address));

/** The address for a client: of its own family where the sandbox has one. */
export const addressFor = (target: RelayTarget, client: string): Ip | undefined =>
  client === "::1" ? (target.address6 ?? target.address4) : (target.address4 ?? target.address6);
