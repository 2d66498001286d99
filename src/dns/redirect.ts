/** The address at which a sandbox finds its resolver. */
export const resolverAddress = "127.0.0.11";
/** The nftables table in the sandbox's namespace. */
export const redirectTable = "dnet_dns";

const checkPort = (port: number): number => {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new RangeError(`${port} is not a port`);
  return port;
};

/**
 * The batch for `nft -f -` inside a sandbox that leads port 53 of 127.0.0.11 to the resolver's own ports, so that port
 * 53 stays free for the sandbox's programs. Loading it again replaces it.
 * @throws RangeError where a port is none
 */
export const resolverRedirect = (udpPort: number, tcpPort: number): string => {
  const ports = [
    ["udp", checkPort(udpPort)],
    ["tcp", checkPort(tcpPort)],
  ] as const;
  const rules = ports.map(
    ([protocol, port]) =>
      `add rule ip ${redirectTable} output ip daddr ${resolverAddress} ${protocol} dport 53 dnat to ${resolverAddress}:${port}\n`,
  );
  // Emptied, not deleted and made again: taking a chain away makes the kernel wait for a grace period (13 ms). Replies find
  // their way back by connection tracking.
  return `table ip ${redirectTable} {
  chain output { type nat hook output priority -100; policy accept; }
}
flush chain ip ${redirectTable} output
${rules.join("")}`;
};
