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
  const output = ports.map(
    ([protocol, port]) => `    ip daddr ${resolverAddress} ${protocol} dport 53 dnat to ${resolverAddress}:${port}\n`,
  );
  // Packets that the resolver sends of its own accord, after conntrack forgot the query, still come from port 53.
  const postrouting = ports.map(
    ([protocol, port]) => `    ip saddr ${resolverAddress} ${protocol} sport ${port} snat to ${resolverAddress}:53\n`,
  );
  return `add table ip ${redirectTable}
delete table ip ${redirectTable}
table ip ${redirectTable} {
  chain output {
    type nat hook output priority -100; policy accept;
${output.join("")}  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
${postrouting.join("")}  }
}
`;
};
