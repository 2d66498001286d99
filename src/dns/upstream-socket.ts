import { randomInt } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { familyOf, type Ip } from "../net/ip.ts";
import type { Query } from "./packet.ts";

/** What a reply must repeat to be the answer to a query. */
export const isReplyTo = (reply: Buffer, packet: Buffer, query: Query): boolean =>
  reply.length >= query.questionEnd &&
  (reply[2]! & 0x80) !== 0 &&
  reply.readUInt16BE(4) === 1 &&
  reply.compare(packet, 12, query.questionEnd, 12, query.questionEnd) === 0;

/** The query under another id. */
export const withId = (packet: Buffer, id: number): Buffer => {
  const copy = Buffer.from(packet);
  copy.writeUInt16BE(id, 0);
  return copy;
};

interface Pending {
  readonly packet: Buffer;
  readonly query: Query;
  readonly timer: NodeJS.Timeout;
  readonly settle: (reply: Buffer | undefined) => void;
}

/** Addresses are never names here: the lookup of `node:dgram` would cost a tick per packet. */
export const literalLookup = (
  address: string,
  _options: unknown,
  callback: (error: null, address: string, family: number) => void,
): void => callback(null, address, address.includes(":") ? 6 : 4);

const maxUses = 256;

/** Each is called once. */
export interface UpstreamSocketEvents {
  /** It takes no more queries. */
  retired(socket: UpstreamSocket): void;
  closed(socket: UpstreamSocket): void;
}

/**
 * One connected UDP socket to one upstream: the kernel passes on packets of that address and port only, and chose our
 * port at random. Replies are matched by a random id and the question.
 */
export class UpstreamSocket {
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  #waiting: Buffer[] | undefined = [];
  #uses = 0;
  #retired = false;
  #closed = false;
  readonly #events: UpstreamSocketEvents;
  readonly #age: NodeJS.Timeout;

  /**
   * @param maxAge milliseconds after which it takes no more queries, so that a port that was guessed is soon worthless
   */
  constructor(address: Ip, port: number, maxAge: number, events: UpstreamSocketEvents) {
    this.#events = events;
    this.#age = setTimeout(() => this.#retire(), maxAge);
    this.#socket = createSocket({ type: familyOf(address) === 4 ? "udp4" : "udp6", lookup: literalLookup });
    // A refusal (ICMP) or a failed connect: whoever waits here tries the next upstream at once.
    this.#socket.on("error", () => this.close());
    this.#socket.on("message", (reply) => this.#receive(reply));
    this.#socket.connect(port, address, () => {
      for (const packet of this.#waiting ?? []) this.#send(packet);
      this.#waiting = undefined;
    });
  }

  /** True already where the kernel refused the socket: there may be no descriptors left. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Queries that wait for a reply. */
  get busy(): number {
    return this.#pending.size;
  }

  /** The reply with the client's id; undefined after `timeout` milliseconds, a refusal or `close`. */
  ask(packet: Buffer, query: Query, timeout: number): Promise<Buffer | undefined> {
    if (this.#closed) return Promise.resolve(undefined);
    let id = randomInt(65_536);
    while (this.#pending.has(id)) id = randomInt(65_536);
    return new Promise((resolve) => {
      const settle = (reply: Buffer | undefined) => {
        clearTimeout(timer);
        this.#pending.delete(id);
        resolve(reply);
        if (this.#retired && this.#pending.size === 0) this.close();
      };
      const timer = setTimeout(settle, timeout, undefined);
      this.#pending.set(id, { packet, query, timer, settle });
      const sent = withId(packet, id);
      if (this.#waiting) this.#waiting.push(sent);
      else this.#send(sent);
      if (++this.#uses >= maxUses) this.#retire();
    });
  }

  /** Ends every wait and the socket. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#retire();
    this.#waiting = undefined;
    for (const { settle } of [...this.#pending.values()]) settle(undefined);
    this.#socket.close();
    this.#events.closed(this);
  }

  #send(packet: Buffer): void {
    if (this.#closed) return;
    this.#socket.send(packet, (error) => {
      if (error) this.close();
    });
  }

  #receive(reply: Buffer): void {
    if (reply.length < 12) return;
    const pending = this.#pending.get(reply.readUInt16BE(0));
    if (!pending || !isReplyTo(reply, pending.packet, pending.query)) return;
    reply.writeUInt16BE(pending.query.id, 0);
    pending.settle(reply);
  }

  #retire(): void {
    if (this.#retired) return;
    this.#retired = true;
    clearTimeout(this.#age);
    this.#events.retired(this);
    if (this.#pending.size === 0) this.close();
  }
}
