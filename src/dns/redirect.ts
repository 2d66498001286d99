import type { Redirect } from "../linux/redirect.ts";
import { parseIp } from "../net/ip.ts";

/** The address at which a sandbox finds its resolver. */
export const resolverAddress = "127.0.0.11";
/** The nftables table in the sandbox's namespace. */
export const redirectTable = "dnet_dns";
/** What is redirected there: DNS. */
export const redirectedBy = { table: redirectTable, port: 53 } as const;

const checkPort = (port: number): number => {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new RangeError(`${port} is not a port`);
  return port;
};

/**
 * What leads port 53 of 127.0.0.11 to the resolver's own ports inside a sandbox, so that port 53 stays free for the sandbox's
 * programs.
 * @throws RangeError where a port is none
 */
export const resolverRedirect = (udpPort: number, tcpPort: number): Redirect => ({
  ...redirectedBy,
  address: parseIp(resolverAddress),
  udp: checkPort(udpPort),
  tcp: checkPort(tcpPort),
});
