/** The lab's plan of addresses, as the walk-through has it: gateway, store, then the hosts. */

export const lan = { prefix: "172.17.0.0/16", length: 16, gateway: "172.17.0.1", store: "172.17.0.2" } as const;
/** Documentation addresses (RFC 5737): they can be nobody's. */
export const outside = { length: 24, gateway: "203.0.113.1", address: "203.0.113.2" } as const;

/** Hosts of one lab; a bound for memory, not for the network. */
export const maxHosts = 32;
/** Port of a daemon inside its host, as in the original. */
export const daemonPort = 2385;
/** The first daemon's port on the caller's loopback. */
export const firstPort = 41_000;

/** @param n from 1 */
export const hostName = (n: number): string => `dnet-${n}`;
export const hostAddress = (n: number): string => `172.17.0.${n + 2}`;

/** `02:42:` and the address, as the daemon's own endpoints have it. */
export const macOf = (address: string): string =>
  ["02", "42", ...address.split(".").map((byte) => Number(byte).toString(16).padStart(2, "0"))].join(":");
