import { type Answer, exchange, type Target } from "./exchange.ts";

/** The REST client: one request a call, over the unix socket or TCP. */

/** The daemon refused, or could not be reached; printed as it is, exit status 1. */
export class ClientError extends Error {
  /** Absent where the daemon could not be reached. */
  readonly status: number | undefined;

  constructor(message: string, status?: number) {
    super(message);
    this.status = status;
  }
}

export const defaultHost = "unix:///var/run/dnet.sock";
/** Where `tcp://host` without a port leads, as in the original. */
const defaultPort = 2375;
/** Milliseconds for one answer; removing a network with many objects takes the kernel seconds. */
const deadline = 120_000;

/** @throws ClientError that says what was wrong */
export const parseHost = (text: string): Target => {
  if (text.startsWith("unix://")) {
    const socketPath = text.slice("unix://".length);
    if (!socketPath.startsWith("/")) throw new ClientError(`invalid host ${text}: the path must be absolute`);
    return { socketPath };
  }
  const scheme = /^([a-zA-Z]+):\/\//.exec(text)?.[1];
  if (scheme !== undefined && scheme !== "tcp") {
    throw new ClientError("dnet currently only supports tcp and unix transport");
  }
  const rest = text.replace(/^tcp:\/\//, "");
  const match = /^(\[[0-9a-fA-F:.]+\]|[^:/[\]]*)(?::([^/]*))?$/.exec(rest);
  if (!match) throw new ClientError(`invalid host ${text}: it has the form tcp://address:port or unix:///path`);
  const [, host = "", port] = match;
  if (port !== undefined && (!/^\d{1,5}$/.test(port) || Number(port) > 65535)) {
    throw new ClientError(`parse "tcp://${rest}": invalid port ":${port}" after host`);
  }
  return { host: host.replace(/^\[|\]$/g, "") || "127.0.0.1", port: port === undefined ? defaultPort : Number(port) };
};

export class Client {
  readonly #target: Target;
  readonly #host: string;
  /** Since when what the daemon shows may be out of date, once it said so. */
  staleSince = "";

  constructor(host: string) {
    this.#host = host;
    this.#target = parseHost(host);
  }

  /** @throws ClientError with the daemon's text, or saying that there is none */
  async call<T>(method: "GET" | "POST" | "DELETE", path: string, body?: unknown): Promise<T> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const { status, type, staleSince, body: answer } = await this.#ask(method, path, text);
    this.staleSince ||= staleSince;
    if (status >= 200 && status < 300) {
      try {
        return (answer === "" ? undefined : JSON.parse(answer)) as T;
      } catch {
        throw new ClientError(`error when trying to connect: ${this.#host} does not answer as a dnet daemon does`);
      }
    }
    throw new ClientError(`error : ${refusal(type, answer, status)}`, status);
  }

  async #ask(method: string, path: string, body: string | undefined): Promise<Answer> {
    try {
      return await exchange(this.#target, method, path, body, deadline);
    } catch (error) {
      throw this.#unreachable(method, path, error as Error & { code?: string });
    }
  }

  #unreachable(method: string, path: string, error: Error & { code?: string }): ClientError {
    const verb = `${method.charAt(0)}${method.slice(1).toLowerCase()}`;
    const where = "socketPath" in this.#target ? this.#host : `http://${this.#target.host}:${this.#target.port}`;
    const reasons: Record<string, string> = {
      ECONNREFUSED: "connection refused",
      ENOENT: "no such file or directory",
      EACCES: "permission denied",
      ECONNRESET: "EOF",
      ENOTFOUND: "no such host",
    };
    const reason = reasons[error.code ?? ""] ?? error.message;
    const hint =
      error.code === "EACCES"
        ? "you may not use this socket: run it as root"
        : "is the daemon running there? start one with: dnet -d, or say where it is with -H or DNET_HOST";
    return new ClientError(`error when trying to connect: ${verb} "${where}${path}": ${reason}\n${hint}`);
  }
}

/** The text of a refusal: ours as JSON with a hint, the original's as plain text. */
const refusal = (type: string, answer: string, status: number): string => {
  if (type.startsWith("application/json")) {
    try {
      const { message, hint } = JSON.parse(answer) as { message?: unknown; hint?: unknown };
      if (typeof message === "string") return typeof hint === "string" ? `${message}\n${hint}` : message;
    } catch {
      // Shown as it came.
    }
  }
  return answer.trimEnd() || `status ${status}`;
};
