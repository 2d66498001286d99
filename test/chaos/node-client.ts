import { Agent, request } from "node:http";
import type { LabHost } from "../../src/lab/lab-host.ts";
import type { Outcome } from "./history.ts";

/** Milliseconds that a client waits for an answer. */
const patience = 20_000;

export interface Answer {
  readonly outcome: Outcome;
  readonly status: number;
  readonly text: string;
  /** Since when the node is out of date, where it says so. */
  readonly staleSince?: string;
}

/** A node's REST API as a client sees it, one request a call, never repeated. */
export class NodeClient {
  readonly name: string;
  readonly #socketPath: string;
  readonly #agent = new Agent({ keepAlive: false });

  constructor(host: LabHost) {
    this.name = host.name;
    this.#socketPath = host.socketPath;
  }

  call(method: string, path: string, body?: unknown): Promise<Answer> {
    const text = body === undefined ? "" : JSON.stringify(body);
    return new Promise((resolve) => {
      const outgoing = request(
        {
          socketPath: this.#socketPath,
          agent: this.#agent,
          method,
          path,
          timeout: patience,
          headers: { "content-length": Buffer.byteLength(text) },
        },
        (incoming) => {
          let answer = "";
          incoming.setEncoding("utf8");
          incoming.on("data", (chunk: string) => {
            answer += chunk;
          });
          incoming.once("error", lost);
          incoming.once("end", () => {
            const { statusCode: status = 0, headers } = incoming;
            const stale = headers["x-dnet-stale-since"];
            resolve({
              outcome: status < 300 ? "ok" : status < 500 ? "refused" : "unknown",
              status,
              text: answer,
              ...(typeof stale === "string" && { staleSince: stale }),
            });
          });
        },
      );
      const lost = (error: Error & { code?: string }): void =>
        resolve({
          // Nobody listened: it was never sent.
          outcome: error.code === "ECONNREFUSED" || error.code === "ENOENT" ? "refused" : "unknown",
          status: 0,
          text: error.message,
        });
      outgoing.once("timeout", () => outgoing.destroy(new Error("no answer in time")));
      outgoing.once("error", lost);
      outgoing.end(text);
    });
  }

  /** A read that must succeed and be up to date; undefined where it is not. */
  async read<T>(path: string): Promise<T | undefined> {
    const { outcome, text, staleSince } = await this.call("GET", path);
    return outcome === "ok" && staleSince === undefined ? (JSON.parse(text) as T) : undefined;
  }
}
