import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import { noService } from "../../errors.ts";

/** Serf's own standard, which the walk-through has. */
export const standardSerfPort = 7946;
/** Ports that are tried from the wanted one up. */
const tries = 64;

const tcpIsFree = (host: string, port: number): Promise<number | undefined> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(undefined));
    server.listen({ host, port, exclusive: true }, () => {
      const bound = server.address();
      const number = typeof bound === "object" && bound !== null ? bound.port : undefined;
      server.close(() => resolve(number));
    });
  });

const udpIsFree = (host: string, port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
    socket.once("error", () => {
      socket.close();
      resolve(false);
    });
    socket.bind({ address: host, port, exclusive: true }, () => socket.close(() => resolve(true)));
  });

/**
 * The first port from `wanted` up that nobody holds on the address, neither by TCP nor by UDP: serf needs both.
 * @throws NetworkError `no-serf-port` (no service)
 */
export const freeSerfPort = async (address: string, wanted: number): Promise<number> => {
  for (let port = wanted; port < Math.min(wanted + tries, 65_536); port++) {
    if ((await tcpIsFree(address, port)) !== undefined && (await udpIsFree(address, port))) return port;
  }
  throw noService("no-serf-port", `no port from ${wanted} up can be had on ${address} for serf`, {
    hint: "is the address one of this host? set [cluster] Address, or another [cluster] serfPort",
  });
};

/** A TCP port of the loopback that nobody holds now: the wanted one where it is free. @throws NetworkError `no-serf-port` */
export const freeLoopbackPort = async (wanted = 0): Promise<number> => {
  const port = (await tcpIsFree("127.0.0.1", wanted)) ?? (await tcpIsFree("127.0.0.1", 0));
  if (port === undefined) throw noService("no-serf-port", "no port can be had on 127.0.0.1 for serf's RPC");
  return port;
};
