import { createServer, connect as netConnect, type Server, type Socket } from "node:net";
import type { RelayLimits } from "./relay-limits.ts";
import { addressFor, isLoopback, type RelayTarget } from "./relay-target.ts";

/** Milliseconds for the sandbox's program to accept. */
const connectDeadline = 10_000;
/** Milliseconds of silence after which a peer is asked whether it still lives. */
const keepAlive = 60_000;

/**
 * Forwards connections of clients on the loopback to a port of a sandbox: what NAT cannot do without `route_localnet`, and for ::1
 * not at all. The sandbox sees the host's address on its network.
 */
export class TcpRelay {
  readonly #server: Server;
  readonly #open = new Set<Socket>();

  /** @param fd a listening socket; the relay closes it */
  constructor(fd: number, target: RelayTarget, port: number, limits: RelayLimits) {
    this.#server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) =>
      this.#forward(client, target, port, limits),
    );
    // An accept that fails (no descriptors left) is that client's loss alone.
    this.#server.on("error", () => undefined);
    this.#server.listen({ fd });
  }

  #forward(client: Socket, target: RelayTarget, port: number, limits: RelayLimits): void {
    client.on("error", () => client.destroy());
    const from = client.remoteAddress;
    const host = from !== undefined && isLoopback(from) ? addressFor(target, from) : undefined;
    if (host === undefined || !limits.take()) {
      client.resetAndDestroy();
      return;
    }
    const server = netConnect({ host, port, allowHalfOpen: true });
    const ends = [client, server];
    let open = ends.length;
    for (const [n, end] of ends.entries()) {
      const other = ends[1 - n];
      this.#open.add(end);
      end.setKeepAlive(true, keepAlive);
      end.setNoDelay(true);
      end.once("close", (failed) => {
        this.#open.delete(end);
        if (failed) other?.resetAndDestroy();
        if (--open === 0) limits.giveBack();
      });
    }
    server.setTimeout(connectDeadline, () => server.destroy(new Error("timeout")));
    server.on("error", () => client.resetAndDestroy());
    server.once("connect", () => {
      server.setTimeout(0);
      client.pipe(server);
      server.pipe(client);
    });
  }

  /** Lets go of the port and of what runs through it. */
  async close(): Promise<void> {
    for (const socket of this.#open) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
