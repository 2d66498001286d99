import { Agent, request } from "node:http";

/** The REST API over the unix socket, connections kept. */
export class Rest {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 16 });
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /** Once more where the daemon had closed an idle connection in the meantime. */
  async call<T>(method: string, path: string, body?: unknown): Promise<T> {
    try {
      return await this.#once<T>(method, path, body);
    } catch (error) {
      if (!["EPIPE", "ECONNRESET"].includes((error as { code?: string }).code ?? "")) throw error;
      // On a connection of its own: others that were kept are closed too.
      return this.#once<T>(method, path, body, false);
    }
  }

  async #once<T>(method: string, path: string, body: unknown, agent: Agent | false = this.#agent): Promise<T> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const outgoing = request(
        {
          socketPath: this.#socketPath,
          agent,
          method,
          path,
          headers: text === undefined ? {} : { "content-length": Buffer.byteLength(text) },
        },
        (incoming) => {
          let answer = "";
          incoming.setEncoding("utf8");
          incoming.on("data", (chunk: string) => {
            answer += chunk;
          });
          incoming.on("end", () => {
            if ((incoming.statusCode ?? 500) >= 300) reject(new Error(`${method} ${path}: ${answer}`));
            else resolve((answer === "" ? undefined : JSON.parse(answer)) as T);
          });
        },
      );
      outgoing.on("error", reject);
      outgoing.end(text);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}
