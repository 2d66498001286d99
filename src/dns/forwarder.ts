import { randomInt } from "node:crypto";
import { connect, type Socket } from "node:net";
import type { Transport } from "./answer.ts";
import { FrameReader, frame } from "./frames.ts";
import { type Query, rcode } from "./packet.ts";
import { isReplyTo, UpstreamSocket, withId } from "./upstream-socket.ts";
import type { Upstream } from "./upstreams.ts";

export interface ForwarderOptions {
  /** Milliseconds that each upstream has for its answer; 2000 by default. */
  readonly timeout?: number;
  /** Queries under way at once; 1024 by default. */
  readonly maxOutstanding?: number;
}

const dnsPort = 53;
const socketsPerUpstream = 8;
const socketAge = 10_000;

/**
 * Passes queries on to upstreams as raw bytes; only the id is our own. Sockets are opened where the process is, in the
 * host's namespace, so that upstreams on the host's loopback are reached too.
 */
export class Forwarder {
  readonly #timeout: number;
  readonly #maxOutstanding: number;
  readonly #pools = new Map<string, Set<UpstreamSocket>>();
  /** Retired sockets that still wait for replies are closed with the others. */
  readonly #sockets = new Set<UpstreamSocket>();
  readonly #connections = new Set<Socket>();
  #outstanding = 0;
  #closed = false;

  constructor(options: ForwarderOptions = {}) {
    this.#timeout = options.timeout ?? 2000;
    this.#maxOutstanding = options.maxOutstanding ?? 1024;
  }

  /**
   * The first reply of the upstreams, asked in order, with the client's id. An upstream that fails or refuses
   * (SERVFAIL, REFUSED) gives way to the next; its reply counts where no other has a better one.
   * Undefined where none replied, too many queries are under way, or after `close`. Never rejects.
   */
  async forward(
    packet: Buffer,
    query: Query,
    transport: Transport,
    upstreams: readonly Upstream[],
  ): Promise<Buffer | undefined> {
    if (this.#closed || this.#outstanding >= this.#maxOutstanding) return undefined;
    this.#outstanding++;
    try {
      let poor: Buffer | undefined;
      for (const upstream of upstreams) {
        const reply = await this.#ask(packet, query, transport, upstream);
        if (this.#closed) return undefined;
        if (!reply) continue;
        const code = reply[3]! & 15;
        if (code !== rcode.servFail && code !== rcode.refused) return reply;
        poor = reply;
      }
      return poor;
    } catch {
      return undefined;
    } finally {
      this.#outstanding--;
    }
  }

  /** Ends every wait and closes all sockets. */
  close(): void {
    this.#closed = true;
    for (const socket of [...this.#sockets]) socket.close();
    for (const connection of this.#connections) connection.destroy();
    this.#sockets.clear();
  }

  #ask(packet: Buffer, query: Query, transport: Transport, upstream: Upstream): Promise<Buffer | undefined> {
    return transport === "udp"
      ? this.#socketFor(upstream).ask(packet, query, this.#timeout)
      : this.#askTcp(packet, query, upstream);
  }

  /** An idle socket, or a new one while there are few, or any: its port is one of several that a forger must guess. */
  #socketFor({ address, port = dnsPort }: Upstream): UpstreamSocket {
    const key = `${address} ${port}`;
    const known = this.#pools.get(key);
    const pool = known ?? new Set<UpstreamSocket>();
    this.#pools.set(key, pool);
    const sockets = [...pool];
    const idle = sockets.find((socket) => socket.busy === 0);
    if (idle) return idle;
    if (sockets.length >= socketsPerUpstream) return sockets[randomInt(sockets.length)]!;
    const socket = new UpstreamSocket(address, port, socketAge, {
      retired: (it) => {
        pool.delete(it);
        if (pool.size === 0 && this.#pools.get(key) === pool) this.#pools.delete(key);
      },
      closed: (it) => this.#sockets.delete(it),
    });
    if (socket.closed) return socket;
    pool.add(socket);
    this.#sockets.add(socket);
    return socket;
  }

  #askTcp(packet: Buffer, query: Query, { address, port = dnsPort }: Upstream): Promise<Buffer | undefined> {
    const id = randomInt(65_536);
    const frames = new FrameReader();
    const connection = connect({ host: address, port, noDelay: true });
    this.#connections.add(connection);
    return new Promise((resolve) => {
      const settle = (reply?: Buffer) => {
        clearTimeout(timer);
        this.#connections.delete(connection);
        connection.destroy();
        resolve(reply);
      };
      const timer = setTimeout(settle, this.#timeout, undefined);
      connection.on("error", () => settle());
      connection.on("close", () => settle());
      connection.on("connect", () => connection.write(frame(withId(packet, id))));
      connection.on("data", (chunk) => {
        frames.feed(chunk);
        const reply = frames.next();
        if (!reply) return;
        if (reply.length < 12 || reply.readUInt16BE(0) !== id || !isReplyTo(reply, packet, query)) return settle();
        reply.writeUInt16BE(query.id, 0);
        settle(reply);
      });
    });
  }
}
