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
  /** Milliseconds until the whole answer must be there, however many servers are asked; 0: no limit. */
  readonly timeout?: number;
  /** May be sent again to another server when its answer got lost; by default only GET. */
  readonly repeatable?: boolean;
  /** Asks only this one of the servers. */
  readonly server?: string;
  readonly signal?: AbortSignal;
}

export interface HttpResponse {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
  /** The server that answered, `host:port`. */
  readonly server: string;
}

/** No answer. `sent` is false where no server can have seen the request. */
export class NoAnswer extends Error {
  readonly server: string;
  readonly reason: string;
  readonly sent: boolean;

  constructor(server: string, reason: string, sent: boolean, cause: unknown) {
    super(server === "" ? reason : `${server}: ${reason}`, { cause });
    this.name = "NoAnswer";
    this.server = server;
    this.reason = reason;
    this.sent = sent;
  }
}

/** An answer longer than this ends the request: the store is untrusted. 64 MiB hold 100,000 endpoints. */
const maxBody = 64 * 1024 * 1024;
const standardTimeout = 1_500;

/** Milliseconds one server may take: until it is connected, and until its answer is there. */
interface Limits {
  readonly connect: number;
  readonly answer: number;
}

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
    const { stream, server, late } = await this.#open(request, true);
    const chunks: Buffer[] = [];
    let length = 0;
    try {
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        length += chunk.length;
        if (length > maxBody) throw new Error(`an answer longer than ${maxBody} bytes`);
        chunks.push(chunk);
      }
    } catch (cause) {
      request.signal?.throwIfAborted();
      throw new NoAnswer(server, late() ?? failureText(cause), true, cause);
    }
    return { status: stream.statusCode ?? 0, headers: stream.headers, body: Buffer.concat(chunks).toString(), server };
  }

  /** The same, as soon as the answer begins; from then on it has no deadline: for streams. @throws NoAnswer */
  async open(request: HttpRequest): Promise<{ readonly stream: IncomingMessage; readonly server: string }> {
    return this.#open(request, false);
  }

  async #open(request: HttpRequest, whole: boolean): Promise<Answer> {
    const all = this.#options.servers;
    const { repeatable = request.method === "GET", timeout = this.#options.timeout ?? standardTimeout } = request;
    const servers =
      request.server === undefined ? [...all.slice(this.#current), ...all.slice(0, this.#current)] : [request.server];
    const end = timeout > 0 ? performance.now() + timeout : Number.POSITIVE_INFINITY;
    let last: NoAnswer | undefined;
    for (const [n, server] of servers.entries()) {
      const left = end - performance.now();
      if (left <= 0) break;
      // One that does not answer leaves half of the time to those after it.
      const share = n < servers.length - 1 ? left / 2 : left;
      try {
        const answer = await this.#ask(server, request, { connect: share, answer: repeatable ? share : left }, whole);
        if (request.server === undefined) this.#current = all.indexOf(server);
        return answer;
      } catch (error) {
        if (!(error instanceof NoAnswer)) throw error;
        last = error;
        // The next time another one is asked first; this time only where this one cannot have seen it.
        if (all.indexOf(server) === this.#current) this.#current = (this.#current + 1) % all.length;
        if (error.sent && !repeatable) break;
      }
    }
    throw (
      last ?? new NoAnswer("", servers.length > 0 ? "no time is left" : "no server is configured", false, undefined)
    );
  }

  #ask(server: string, request: HttpRequest, limits: Limits, whole: boolean): Promise<Answer> {
    const { method, path, headers, body, signal } = request;
    const stop = new AbortController();
    let tooLate: string | undefined;
    const within = (milliseconds: number, what: string) =>
      Number.isFinite(milliseconds)
        ? setTimeout(() => {
            tooLate = `${what} within ${Math.round(milliseconds)} ms`;
            stop.abort();
            this.#dropIdle();
          }, milliseconds)
        : undefined;
    return new Promise((resolve, reject) => {
      let sent = false;
      const url = new URL(`${this.#secure ? "https" : "http"}://${server}${path}`);
      const outgoing = (this.#secure ? httpsRequest : httpRequest)(url, {
        method,
        agent: this.#agent,
        signal: signal ? AbortSignal.any([signal, stop.signal]) : stop.signal,
        headers: {
          ...this.#options.headers,
          ...(body !== undefined && { "content-type": "application/json", "content-length": Buffer.byteLength(body) }),
          ...headers,
        },
      });
      const connecting = within(limits.connect, "no connection");
      const answering = within(limits.answer, "no answer");
      const connected = () => {
        sent = true;
        clearTimeout(connecting);
      };
      outgoing.once("socket", (socket) => {
        if (socket.connecting) socket.once(this.#secure ? "secureConnect" : "connect", connected);
        else connected();
      });
      outgoing.once("response", (stream) => {
        if (whole) stream.once("close", () => clearTimeout(answering));
        else clearTimeout(answering);
        resolve({ stream, server, late: () => tooLate });
      });
      outgoing.once("error", (cause) => {
        clearTimeout(connecting);
        clearTimeout(answering);
        if (signal?.aborted) return reject(signal.reason);
        reject(new NoAnswer(server, tooLate ?? failureText(cause), sent, cause));
      });
      outgoing.end(body);
    });
  }

  /** Kept connections to a server that vanished without a word would each cost a request its time. */
  #dropIdle(): void {
    for (const idle of Object.values(this.#agent.freeSockets)) for (const socket of idle ?? []) socket.destroy();
  }

  close(): void {
    this.#agent.destroy();
  }
}

interface Answer {
  readonly stream: IncomingMessage;
  readonly server: string;
  /** Why it was cut off, where its time was up. */
  readonly late: () => string | undefined;
}

/** A name with several addresses fails with an error for each of them and no text of its own. */
const failureText = (cause: unknown): string => {
  const first: unknown = cause instanceof AggregateError && cause.message === "" ? cause.errors[0] : cause;
  return errorText(first) || String(first);
};
