import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { once } from "node:events";
import { closeSync } from "node:fs";
import type { AddressInfo, Server } from "node:net";
import { type Answer, answerQuery, refuseQuery, type Transport } from "./answer.ts";
import { Forwarder, type ForwarderOptions } from "./forwarder.ts";
import type { Names } from "./name-table.ts";
import { rcode } from "./packet.ts";
import { createTcpServer, type TcpServerOptions } from "./tcp-server.ts";
import { literalLookup } from "./upstream-socket.ts";
import type { Upstream } from "./upstreams.ts";

/** A socket that is bound already, which the resolver takes over, or an address to bind. */
export type ResolverSocket = { readonly fd: number } | { readonly address: string; readonly port: number };

export interface ResolverOptions
  extends ForwarderOptions,
    Pick<TcpServerOptions, "maxConnections" | "idle" | "maxInFlight"> {
  readonly udp: ResolverSocket;
  readonly tcp: ResolverSocket;
  readonly view: Names & { isSource(address: string): boolean };
  /** Asked at each query that is not ours. Undefined: the sandbox is internal, what is not ours does not exist. */
  readonly upstreams: () => readonly Upstream[] | undefined;
  /**
   * Resolves, and never rejects, when everything that other hosts had published at the call is known, or soon after in vain: asked before a name that
   * may have just come is said not to exist. Undefined where there is nothing to wait for.
   */
  readonly news?: () => Promise<void> | undefined;
  /** Seconds; 0 by default. */
  readonly ttl?: number;
  /** Told of faults that no packet should be able to cause; nothing is thrown for them. */
  readonly onError?: (error: unknown) => void;
}

/** Queries of one sandbox that wait for news; whoever asks more at once hears what is known. */
const maxWaiting = 256;

/** The DNS server of one sandbox: answers its names, forwards the others. */
export class Resolver {
  readonly #options: ResolverOptions;
  readonly #forwarder: Forwarder;
  readonly #udp: Socket;
  readonly #tcp: Server;
  readonly #destroyConnections: () => void;
  #closing: Promise<void> | undefined;
  /** Queries that wait for news. */
  #waiting = 0;

  private constructor(options: ResolverOptions) {
    this.#options = options;
    this.#forwarder = new Forwarder(options);
    this.#udp = createSocket({ type: "udp4", lookup: literalLookup });
    const { server, destroyAll } = createTcpServer({
      ...options,
      isSource: (address) => options.view.isSource(address),
      handle: (message) => this.#handle(message, "tcp"),
    });
    this.#tcp = server;
    this.#destroyConnections = destroyAll;
  }

  /**
   * Starts a resolver, which owns the descriptors from here on.
   * @throws the error of the system where a socket cannot be bound or taken over; nothing is left open then
   */
  static async open(options: ResolverOptions): Promise<Resolver> {
    const resolver = new Resolver(options);
    try {
      await resolver.#listenUdp(options.udp);
    } catch (error) {
      if ("fd" in options.tcp) closeSync(options.tcp.fd);
      await resolver.close();
      throw error;
    }
    try {
      await resolver.#listenTcp(options.tcp);
    } catch (error) {
      await resolver.close();
      throw error;
    }
    return resolver;
  }

  get udpPort(): number {
    return this.#udp.address().port;
  }

  get tcpPort(): number {
    return (this.#tcp.address() as AddressInfo).port;
  }

  /** Resolves when all sockets are closed; queries under way get no answer. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#forwarder.close();
    const udp = new Promise<void>((resolve) => this.#udp.close(() => resolve()));
    // A server that never listened calls back too, with an error that says so.
    const tcp = new Promise<void>((resolve) => this.#tcp.close(() => resolve()));
    this.#destroyConnections();
    await Promise.all([udp, tcp]);
  }

  async #listenUdp(socket: ResolverSocket): Promise<void> {
    this.#udp.on("message", (packet, from) => this.#onPacket(packet, from));
    // Waited for first: with a lookup that answers at once, the event comes within the call.
    const listening = once(this.#udp, "listening");
    this.#udp.bind({ ...socket, exclusive: true });
    await listening;
    this.#udp.on("error", (error) => this.#options.onError?.(error));
  }

  async #listenTcp(socket: ResolverSocket): Promise<void> {
    if ("fd" in socket) this.#tcp.listen({ fd: socket.fd });
    else this.#tcp.listen({ host: socket.address, port: socket.port, exclusive: true });
    await once(this.#tcp, "listening");
    this.#tcp.on("error", (error) => this.#options.onError?.(error));
  }

  #onPacket(packet: Buffer, from: RemoteInfo): void {
    if (!this.#options.view.isSource(from.address)) return;
    const reply = this.#handle(packet, "udp");
    if (reply instanceof Promise) void reply.then((later) => this.#sendUdp(later, from));
    else this.#sendUdp(reply, from);
  }

  #sendUdp(reply: Buffer | undefined, to: RemoteInfo): void {
    if (!reply || this.#closing || to.port === 0) return;
    // A client that is gone or whose buffer is full misses a reply, as UDP has it.
    this.#udp.send(reply, to.port, to.address, ignore);
  }

  #handle(packet: Buffer, transport: Transport): Buffer | undefined | Promise<Buffer | undefined> {
    try {
      const answer = this.#answer(packet, transport);
      const waits = answer.kind !== "drop" && answer.mayCome && this.#waiting < maxWaiting;
      const news = waits ? this.#options.news?.() : undefined;
      return news ? this.#afterNews(packet, transport, news) : this.#finish(packet, transport, answer);
    } catch (error) {
      this.#options.onError?.(error);
      return undefined;
    }
  }

  #answer = (packet: Buffer, transport: Transport): Answer =>
    answerQuery(packet, this.#options.view, { ttl: this.#options.ttl ?? 0, transport });

  async #afterNews(packet: Buffer, transport: Transport, news: Promise<void>): Promise<Buffer | undefined> {
    this.#waiting++;
    await news.finally(() => this.#waiting--);
    try {
      return await this.#finish(packet, transport, this.#answer(packet, transport));
    } catch (error) {
      this.#options.onError?.(error);
      return undefined;
    }
  }

  #finish(packet: Buffer, transport: Transport, answer: Answer): Buffer | undefined | Promise<Buffer | undefined> {
    if (answer.kind === "reply") return answer.reply;
    if (answer.kind === "drop") return undefined;
    const upstreams = this.#options.upstreams();
    if (!upstreams) return refuseQuery(packet, answer.query, rcode.nxDomain);
    return this.#forwarder
      .forward(packet, answer.query, transport, upstreams)
      .then((reply) => reply ?? refuseQuery(packet, answer.query, rcode.servFail));
  }
}

const ignore = (): void => {};
