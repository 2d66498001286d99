import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { errorText } from "../errors.ts";

/** Where and how a store's servers are reached. */
export interface HttpClientOptions {
  /** `host:port` of each server, the preferred one first; the next one is tried where one cannot be reached. */
  readonly servers: readonly string[];
  /** Contents of PEM files. With `ca`, or a certificate of one's own, the servers are spoken to by TLS. */
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string };
  readonly headers?: Readonly<Record<string, string>>;
  /** Milliseconds a request may take where it names no time of its own. */
  readonly timeout?: number;
}

export interface HttpRequest {
  readonly method: "GET" | "PUT" | "POST" | "DELETE";
  /** Path and query, encoded. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Milliseconds until the whole answer must be there. */
  readonly timeout?: number;
  readonly signal?: AbortSignal;
}

export interface HttpResponse {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

/** No answer. `sent` is false where no server can have seen the request. */
export class NoAnswer extends Error {
  readonly sent: boolean;

  constructor(reason: string, sent: boolean, cause: unknown) {
    super(reason, { cause });
    this.name = "NoAnswer";
    this.sent = sent;
  }
}

/** An answer longer than this ends the request: the store is untrusted. 64 MiB hold 100,000 endpoints. */
const maxBody = 64 * 1024 * 1024;
const standardTimeout = 1_500;

/** A small HTTP/1.1 client for the servers of one store: kept connections, deadlines, fail-over, bounded answers. */
export class HttpClient {
  readonly #options: HttpClientOptions;
  readonly #agent: HttpAgent;
  readonly #secure: boolean;
  /** Index of the server that answered last. */
  #current = 0;

  constructor(options: HttpClientOptions) {
    this.#options = options;
    this.#secure = options.tls !== undefined;
    const kept = { keepAlive: true, maxSockets: 64, ...options.tls };
    this.#agent = this.#secure ? new HttpsAgent(kept) : new HttpAgent(kept);
  }

  /** The server that is asked first, `host:port`. */
  get server(): string {
    return this.#options.servers[this.#current] ?? "";
  }

  /** @throws NoAnswer; the signal's reason where the caller gave up */
  async request(request: HttpRequest): Promise<HttpResponse> {
    const response = await this.open(request);
    const chunks: Buffer[] = [];
    let length = 0;
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        length += chunk.length;
        if (length > maxBody) throw new Error(`an answer longer than ${maxBody} bytes`);
        chunks.push(chunk);
      }
    } catch (cause) {
      request.signal?.throwIfAborted();
      throw new NoAnswer(`${this.server}: ${errorText(cause)}`, true, cause);
    }
    return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks).toString() };
  }

  /** The same, as soon as the answer begins: for streams, which have no deadline when `timeout` is 0. @throws NoAnswer */
  async open(request: HttpRequest): Promise<IncomingMessage> {
    const { servers } = this.#options;
    let last: NoAnswer | undefined;
    for (let n = 0; n < servers.length; n++) {
      const index = (this.#current + n) % servers.length;
      try {
        const response = await this.#ask(servers[index] ?? "", request);
        this.#current = index;
        return response;
      } catch (error) {
        if (!(error instanceof NoAnswer)) throw error;
        last = error;
        // The next time another one is asked first; this time only where this one cannot have seen it.
        this.#current = (index + 1) % servers.length;
        if (error.sent && request.method !== "GET") break;
      }
    }
    throw last ?? new NoAnswer("no server is configured", false, undefined);
  }

  #ask(server: string, { method, path, headers, body, timeout, signal }: HttpRequest): Promise<IncomingMessage> {
    const milliseconds = timeout ?? this.#options.timeout ?? standardTimeout;
    const deadline = milliseconds > 0 ? AbortSignal.timeout(milliseconds) : undefined;
    const signals = [signal, deadline].filter((one) => one !== undefined);
    return new Promise((resolve, reject) => {
      let sent = false;
      const url = new URL(`${this.#secure ? "https" : "http"}://${server}${path}`);
      const outgoing = (this.#secure ? httpsRequest : httpRequest)(url, {
        method,
        agent: this.#agent,
        signal: AbortSignal.any(signals),
        headers: {
          ...this.#options.headers,
          ...(body !== undefined && { "content-type": "application/json", "content-length": Buffer.byteLength(body) }),
          ...headers,
        },
      });
      outgoing.once("socket", (socket) => {
        const ready = this.#secure ? "secureConnect" : "connect";
        if (socket.connecting) socket.once(ready, () => (sent = true));
        else sent = true;
      });
      outgoing.once("response", resolve);
      outgoing.once("error", (cause) => {
        if (signal?.aborted) return reject(signal.reason);
        const reason = deadline?.aborted ? `no answer within ${milliseconds} ms` : errorText(cause) || String(cause);
        reject(new NoAnswer(`${server}: ${reason}`, sent, cause));
      });
      outgoing.end(body);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}
