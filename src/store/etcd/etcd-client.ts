import type { IncomingMessage } from "node:http";
import type { z } from "zod";
import { badRequest, errorText, type NetworkError, noService, shown } from "../../errors.ts";
import { HttpClient, type HttpClientOptions, type HttpResponse, NoAnswer } from "../http-client.ts";
import { authenticateResponse, refusal } from "./etcd-messages.ts";

export interface EtcdClientOptions extends HttpClientOptions {
  readonly username?: string;
  readonly password?: string;
}

export interface EtcdCall {
  readonly signal: AbortSignal;
  /** It writes: without an answer, nobody knows whether it did, and it must not be sent twice. */
  readonly writes?: boolean;
  /** Asks only this one of the servers. */
  readonly server?: string;
}

/** What was asked for at a revision that etcd no longer has, or not yet. */
export class OutOfRange extends Error {}

const standardTimeout = 1_500;
/**
 * Without a leader, etcd refuses at once (and ends streams) instead of letting us wait (`rpctypes.MetadataRequireLeaderKey`); the
 * gateway turns headers with this prefix into gRPC metadata.
 */
const requireLeader = { "Grpc-Metadata-hasleader": "true" };

/** gRPC's status codes, as far as they tell something. */
const code = {
  invalidArgument: 3,
  notFound: 5,
  denied: 7,
  exhausted: 8,
  precondition: 9,
  outOfRange: 11,
  unauthenticated: 16,
};

/** Requests to etcd's JSON gateway: authenticated, validated, with typed errors. */
export class EtcdClient {
  readonly #options: EtcdClientOptions;
  readonly #http: HttpClient;
  readonly #timeout: number;
  #token: string | undefined;
  /** The renewal of the token under way, shared by all who need it. */
  #renewal: Promise<void> | undefined;

  constructor(options: EtcdClientOptions) {
    this.#options = options;
    this.#timeout = options.timeout ?? standardTimeout;
    this.#http = new HttpClient(options);
  }

  /**
   * @throws NetworkError where nothing was written; OutOfRange; any other error where a write's answer got lost
   */
  async call<T>(path: string, body: object, schema: z.ZodType<T>, call: EtcdCall): Promise<T> {
    const { value, server } = await this.#authenticated(call, async (timeout, headers) => {
      const response = await this.#http.request({
        method: "POST",
        path,
        body: JSON.stringify(body),
        headers,
        timeout,
        repeatable: !call.writes,
        signal: call.signal,
        ...(call.server !== undefined && { server: call.server }),
      });
      return { status: response.status, value: response.body, server: response.server };
    });
    try {
      return schema.parse(JSON.parse(value));
    } catch (cause) {
      throw this.#failure(server, "answers something else than etcd does", call, cause);
    }
  }

  /** Opens a stream of lines. @throws NetworkError */
  async stream(path: string, body: object, signal: AbortSignal): Promise<{ stream: IncomingMessage; server: string }> {
    const { value, server } = await this.#authenticated({ signal }, async (timeout, headers) => {
      const { stream, server } = await this.#http.open({
        method: "POST",
        path,
        body: JSON.stringify(body),
        headers,
        timeout,
        repeatable: true,
        signal,
      });
      const status = stream.statusCode ?? 0;
      return { status, value: status === 200 ? stream : await shortText(stream), server };
    });
    if (typeof value === "string") throw this.#failure(server, "answers something else than etcd does", { signal });
    return { stream: value, server };
  }

  close(): void {
    this.#http.close();
  }

  /** Sends with the token; once more with a new one where that has become invalid. All within one deadline. */
  async #authenticated<V>(
    call: EtcdCall,
    send: (timeout: number, headers: Readonly<Record<string, string>>) => Promise<Answered<V>>,
  ): Promise<Answered<V>> {
    const end = performance.now() + this.#timeout;
    const left = () => Math.max(1, end - performance.now());
    try {
      if (this.#options.username !== undefined && this.#token === undefined) await this.#renew(left());
      const used = this.#token;
      let answered = await send(left(), this.#headers());
      if (answered.status === 200) return answered;
      if (staleToken.test(refusalOf(answered)?.message ?? "") && this.#options.username !== undefined) {
        if (this.#token === used) await this.#renew(left());
        answered = await send(left(), this.#headers());
        if (answered.status === 200) return answered;
      }
      throw this.#refused(answered, call);
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error;
      call.signal.throwIfAborted();
      throw this.#failure(error.server, `does not answer: ${error.reason}`, error.sent ? call : {}, error);
    }
  }

  #headers(): Readonly<Record<string, string>> {
    return { ...requireLeader, ...(this.#token !== undefined && this.#token !== "" && { authorization: this.#token }) };
  }

  async #renew(timeout: number): Promise<void> {
    this.#renewal ??= this.#authenticate(timeout).finally(() => {
      this.#renewal = undefined;
    });
    await this.#renewal;
  }

  async #authenticate(timeout: number): Promise<void> {
    const { username, password = "" } = this.#options;
    let response: HttpResponse;
    try {
      response = await this.#http.request({
        method: "POST",
        path: "/v3/auth/authenticate",
        body: JSON.stringify({ name: username, password }),
        timeout,
        repeatable: true,
      });
    } catch (error) {
      // No write has been sent yet.
      if (error instanceof NoAnswer) throw this.#failure(error.server, `does not answer: ${error.reason}`, {}, error);
      throw error;
    }
    const { status, body, server } = response;
    const refused = refusalOf({ status, value: body, server });
    // A server without authentication takes requests without a token, as etcd's own client has it.
    if (refused?.code === code.precondition) this.#token = "";
    else if (status !== 200) throw this.#refused({ status, value: body, server }, {});
    else {
      const parsed = authenticateResponse.safeParse(parseJson(body));
      if (!parsed.success || /[^\x21-\x7e]/.test(parsed.data.token)) {
        throw this.#failure(server, "answers something else than etcd does", {});
      }
      this.#token = parsed.data.token;
    }
  }

  /** What the gateway's refusal means. Only where it is sure that nothing was written is it a NetworkError. */
  #refused(answered: Answered<unknown>, call: Partial<EtcdCall>): Error {
    const { server, status } = answered;
    const found = refusalOf(answered);
    if (!found) {
      return this.#failure(server, `answers with HTTP status ${status}`, status === 404 ? {} : call, undefined, {
        hint: "is this etcd 3.4 or later, with its JSON gateway (--enable-grpc-gateway)?",
      });
    }
    const { message } = found;
    if (found.code === code.unauthenticated || found.code === code.denied || denied.test(message)) {
      return noService("store-denied", `the etcd store at ${server} refuses: ${shown(message)}`, {
        hint: "check user name, password and the role's permission on the prefix",
      });
    }
    if (found.code === code.notFound && message.includes("lease")) return leaseLost();
    if (found.code === code.outOfRange) return new OutOfRange(message);
    if (found.code === code.invalidArgument || tooLarge.test(message)) {
      return badRequest(
        "invalid-transaction",
        `invalid transaction: the etcd store at ${server} says ${shown(message)}`,
      );
    }
    const unwritten = found.code === code.exhausted || message === "etcdserver: no leader";
    return this.#failure(server, `cannot serve: ${shown(message)}`, unwritten ? {} : call, undefined);
  }

  #failure(
    server: string,
    what: string,
    call: Partial<EtcdCall>,
    cause?: unknown,
    { hint = "check that etcd is running and can be reached" }: { readonly hint?: string } = {},
  ): NetworkError | Error {
    const text = server === "" ? `the etcd store ${what}` : `the etcd store at ${server} ${what}`;
    if (call.writes) return new Error(`the answer to a transaction got lost: ${text}`, { cause });
    return noService("store-unavailable", text, { cause, hint });
  }
}

interface Answered<V> {
  readonly status: number;
  readonly value: V;
  readonly server: string;
}

/** Texts of etcd's `rpctypes` errors; their codes say less. */
const staleToken = /invalid auth token|revision of auth store is old|auth: revision in header is old/;
const denied =
  /authentication failed|user name is empty|user name not found|permission denied|authentication is not enabled/;
const tooLarge = /received message larger than max/;

export const leaseLost = () => noService("lease-lost", "the lease has expired");

const refusalOf = ({ status, value }: Answered<unknown>): z.output<typeof refusal> | undefined => {
  if (status === 200 || typeof value !== "string") return undefined;
  const parsed = refusal.safeParse(parseJson(value));
  return parsed.success ? parsed.data : undefined;
};

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

/** The beginning of an answer that is no stream. */
const shortText = async (stream: IncomingMessage): Promise<string> => {
  let text = "";
  const late = setTimeout(() => stream.destroy(), standardTimeout);
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      text += chunk.toString();
      if (text.length > 65_536) break;
    }
  } catch (error) {
    return errorText(error);
  } finally {
    clearTimeout(late);
  }
  return text;
};
