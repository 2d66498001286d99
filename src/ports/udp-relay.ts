import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { reuseAddress } from "../linux/sockets.ts";
import type { Family } from "../net/ip.ts";
import type { RelayLimits } from "./relay-limits.ts";
import { addressFor, isLoopback, type RelayTarget } from "./relay-target.ts";

/** Milliseconds of silence after which a client is forgotten. */
const idle = 90_000;
/** Datagrams of one client that wait for its socket to be ready. */
const waitingMost = 16;

interface Flow {
  readonly socket: Socket;
  ready: boolean;
  waiting: Buffer[];
  lastUsed: number;
}

/** Forwards datagrams of clients on the loopback to a port of a sandbox, and the answers back. */
export class UdpRelay {
  readonly #socket: Socket;
  readonly #target: RelayTarget;
  readonly #port: number;
  readonly #limits: RelayLimits;
  readonly #flows = new Map<string, Flow>();
  #sweeper: NodeJS.Timeout | undefined;

  private constructor(socket: Socket, target: RelayTarget, port: number, limits: RelayLimits) {
    this.#socket = socket;
    this.#target = target;
    this.#port = port;
    this.#limits = limits;
    socket.on("message", (datagram, from) => this.#forward(datagram, from));
    // An ICMP error, or a reply that could not be sent.
    socket.on("error", () => undefined);
  }

  /** @param fd a bound socket; the relay closes it */
  static async open(
    fd: number,
    family: Family,
    target: RelayTarget,
    port: number,
    limits: RelayLimits,
  ): Promise<UdpRelay> {
    const socket = createSocket(`udp${family}`);
    await new Promise<void>((resolve, reject) => {
      socket.once("error", reject);
      socket.bind({ fd, exclusive: true }, () => {
        socket.off("error", reject);
        resolve();
      });
    });
    // libuv sets SO_REUSEADDR on what it is given: with it another program could bind the port beside us.
    reuseAddress(fd, false);
    return new UdpRelay(socket, target, port, limits);
  }

  #forward(datagram: Buffer, from: RemoteInfo): void {
    const address = isLoopback(from.address) ? addressFor(this.#target, from.address) : undefined;
    if (address === undefined) return;
    const key = `${from.port} ${from.address}`;
    const flow = this.#flows.get(key) ?? this.#start(key, from, address);
    if (!flow) return;
    flow.lastUsed = Date.now();
    // The least recently used comes first.
    this.#flows.delete(key);
    this.#flows.set(key, flow);
    if (flow.ready) flow.socket.send(datagram);
    else if (flow.waiting.length < waitingMost) flow.waiting.push(datagram);
  }

  #start(key: string, from: RemoteInfo, address: string): Flow | undefined {
    if (!this.#limits.take()) {
      const [oldest] = this.#flows;
      if (!oldest) return undefined;
      this.#stop(...oldest);
      this.#limits.take();
    }
    const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
    const flow: Flow = { socket, ready: false, waiting: [], lastUsed: Date.now() };
    this.#flows.set(key, flow);
    socket.on("error", () => this.#stop(key, flow));
    socket.on("message", (answer) => {
      flow.lastUsed = Date.now();
      this.#socket.send(answer, from.port, from.address);
    });
    socket.connect(this.#port, address, () => {
      flow.ready = true;
      for (const datagram of flow.waiting.splice(0)) socket.send(datagram);
    });
    this.#sweeper ??= setInterval(() => this.#sweep(), idle / 3).unref();
    return flow;
  }

  #stop(key: string, flow: Flow): void {
    if (this.#flows.get(key) !== flow) return;
    this.#flows.delete(key);
    flow.socket.close();
    this.#limits.giveBack();
  }

  #sweep(): void {
    const now = Date.now();
    for (const [key, flow] of this.#flows) if (now - flow.lastUsed >= idle) this.#stop(key, flow);
    if (this.#flows.size > 0) return;
    clearInterval(this.#sweeper);
    this.#sweeper = undefined;
  }

  /** Forgets clients whose datagrams went to another address than the sandbox has now. */
  retarget(): void {
    for (const [key, flow] of this.#flows) this.#stop(key, flow);
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeper);
    this.retarget();
    await new Promise<void>((resolve) => this.#socket.close(() => resolve()));
  }
}
