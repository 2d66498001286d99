import { once } from "node:events";
import { Agent, createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";

export interface Traffic {
  readonly requests: number;
  /** Those that somebody waits for: not a watch. */
  readonly calls: number;
  /** Of bodies, both ways. */
  readonly bytes: number;
}

/** Forwards requests to a server on loopback and counts them: each is one round trip. */
export class Counter {
  readonly address: string;
  readonly #server: Server;
  readonly #agent: Agent;
  #requests = 0;
  #watches = 0;
  #bytes = 0;

  private constructor(server: Server, agent: Agent) {
    this.#server = server;
    this.#agent = agent;
    this.address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async open(port: number): Promise<Counter> {
    const agent = new Agent({ keepAlive: true });
    const server = createServer((incoming, outgoing) => {
      const { method, url: path = "", headers } = incoming;
      counter.#requests++;
      // Of etcd a stream; of Consul a query that waits, and what fetches the changes that it woke for, a transaction that only reads.
      if (/^\/v3\/watch|[?&]index=|^\/v1\/txn\?consistent/.test(path)) counter.#watches++;
      const forward = request({ port, method, path, headers, agent }, (answer) => {
        outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
        outgoing.flushHeaders();
        answer.on("data", (chunk: Buffer) => {
          counter.#bytes += chunk.length;
        });
        answer.pipe(outgoing);
      });
      forward.on("error", () => outgoing.destroy());
      outgoing.on("close", () => forward.destroy());
      incoming.on("data", (chunk: Buffer) => {
        counter.#bytes += chunk.length;
      });
      incoming.pipe(forward);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const counter = new Counter(server, agent);
    return counter;
  }

  snapshot(): Traffic {
    return { requests: this.#requests, calls: this.#requests - this.#watches, bytes: this.#bytes };
  }

  since(before: Traffic): Traffic {
    const now = this.snapshot();
    return {
      requests: now.requests - before.requests,
      calls: now.calls - before.calls,
      bytes: now.bytes - before.bytes,
    };
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
    this.#agent.destroy();
  }
}
