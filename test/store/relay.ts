import { once } from "node:events";
import { createServer, type Server, Socket } from "node:net";

/** A TCP relay in front of a server, to cut a client off in the ways a network does, and to count what passes. */
export class Relay {
  readonly address: string;
  readonly #port: number;
  readonly #target: number;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  #server: Server | undefined;
  /** Bytes from and to the client. */
  sent = 0;
  received = 0;
  /** Answers are read and thrown away, on connections of now and of later. */
  swallowing = false;

  /** @param target port on loopback */
  constructor(port: number, target: number) {
    this.#port = port;
    this.#target = target;
    this.address = `127.0.0.1:${port}`;
  }

  async open(): Promise<this> {
    const server = createServer((client) => this.#join(client));
    server.listen(this.#port, "127.0.0.1");
    await once(server, "listening");
    this.#server = server;
    return this;
  }

  #join(client: Socket): void {
    const upstream = new Socket().connect(this.#target, "127.0.0.1");
    const pair = [client, upstream] as const;
    this.#pairs.add(pair);
    client.on("data", (chunk) => {
      this.sent += chunk.length;
      if (!this.#isSilent(pair)) upstream.write(chunk);
    });
    upstream.on("data", (chunk) => {
      if (this.swallowing || this.#isSilent(pair)) return;
      this.received += chunk.length;
      client.write(chunk);
    });
    for (const [one, other] of [pair, [upstream, client] as const]) {
      one.on("error", () => undefined);
      one.on("close", () => {
        if (this.#isSilent(pair)) return;
        this.#pairs.delete(pair);
        other.destroy();
      });
    }
  }

  readonly #silent = new WeakSet<readonly [Socket, Socket]>();
  #isSilent(pair: readonly [Socket, Socket]): boolean {
    return this.#silent.has(pair);
  }

  /** What is connected stays so, and nothing passes any more: a host that vanished without a word. New connections work. */
  silence(): void {
    for (const pair of this.#pairs) this.#silent.add(pair);
  }

  /** Refuses connections, and cuts those that are there. */
  async close(): Promise<void> {
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    const closed = once(server, "close");
    server.close();
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
    this.#pairs.clear();
    await closed;
  }
}
