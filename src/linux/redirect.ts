import type { Ip } from "../net/ip.ts";

/** Where one port of an IPv4 address leads inside a namespace: to other ports of the same address, one a protocol. */
export interface Redirect {
  /** The nftables table that holds it and nothing else. */
  readonly table: string;
  readonly address: Ip;
  readonly port: number;
  readonly udp: number;
  readonly tcp: number;
}

/** The chain's name; netlink/redirect.ts sends the same table, chain and rules without nft. */
export const redirectChain = "output";

/** The batch for `nft -f -`. Loading it again replaces it. */
export const redirectScript = ({ table, address, port, ...ports }: Redirect): string => {
  const rules = (["udp", "tcp"] as const).map(
    (protocol) =>
      `add rule ip ${table} ${redirectChain} ip daddr ${address} ${protocol} dport ${port} dnat to ${address}:${ports[protocol]}\n`,
  );
  // Emptied, not deleted and made again: taking a chain away makes the kernel wait for a grace period (13 ms). Replies find
  // their way back by connection tracking.
  return `table ip ${table} {
  chain ${redirectChain} { type nat hook output priority -100; policy accept; }
}
flush chain ip ${table} ${redirectChain}
${rules.join("")}`;
};
