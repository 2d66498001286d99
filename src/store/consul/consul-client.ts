import { z } from "zod";
import { type NetworkError, noService, shown } from "../../errors.ts";
import type { HttpClient, HttpRequest, HttpResponse } from "../http-client.ts";
import { NoAnswer } from "../http-client.ts";
import type { KeyValue } from "./consul-layout.ts";

/** One operation of a Consul transaction, as its API spells it. */
export interface Operation {
  readonly Verb: string;
  readonly Key: string;
  /** Base64. */
  readonly Value?: string;
  readonly Index?: number;
  readonly Session?: string;
}

export interface Refusal {
  readonly operation: number;
  readonly reason: string;
}

export type Commit =
  | { readonly ok: true; readonly index: number }
  | { readonly ok: false; readonly server: string; readonly refusals: readonly Refusal[] };

/** How long a call may take, and who may end it sooner. */
export interface Limits {
  readonly timeout?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

const kv = z.object({
  Key: z.string(),
  Value: z.string().nullish(),
  ModifyIndex: z.int().min(0),
  Session: z.string().nullish(),
});
const pairs = z.array(kv);
const committed = z.object({ Results: z.array(z.object({ KV: kv })).nullable() });
const refused = z.object({
  Errors: z.array(z.object({ OpIndex: z.int().min(0), What: z.string() })).min(1),
});
/** Consul's ids have the form of a UUID, without its version. */
export const sessionId = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const session = z.object({ ID: z.string().regex(sessionId) });

/**
 * Answers of status 500 to a transaction that change nothing. Consul's own servers repeat a request after the first of them,
 * since no state can have been changed.
 */
const untouched = /(^|: )(No cluster leader|node is not the leader|No path to datacenter)\s*$/;
const denied = "Permission denied";
const missing = "doesn't exist";
/** Cannot be in a key of ours: a key that is looked for only to learn whether the token may. */
const probe = "\u0001";

/** The part of Consul's HTTP API that the store needs. Every answer is validated; every failure says which server and why. */
export class ConsulClient {
  readonly #http: HttpClient;
  readonly #datacenter: string | undefined;

  constructor(http: HttpClient, options: { readonly datacenter?: string | undefined } = {}) {
    this.#http = http;
    this.#datacenter = options.datacenter;
  }

  /**
   * Reads keys and trees at one moment, linearizably; undefined where one of the keys does not exist.
   * Consul leaves out of an answer what the token may not read: that is told apart from what is not there.
   */
  async read(
    wanted: { readonly keys?: readonly string[]; readonly trees?: readonly string[] },
    limits: Limits = {},
  ): Promise<readonly KeyValue[] | undefined> {
    const { keys = [], trees = [] } = wanted;
    const operations: Operation[] = [
      ...keys.map((Key) => ({ Verb: "get", Key })),
      ...trees.flatMap((Key) => [
        { Verb: "check-not-exists", Key: Key + probe },
        { Verb: "get-tree", Key },
      ]),
    ];
    const response = await this.#ask("PUT", "txn", { consistent: "" }, limits, {
      body: transactionBody(operations),
      repeatable: true,
    });
    if (response.status === 409) {
      const { Errors } = this.#parse(refused, response);
      if (Errors.some(({ What }) => What.includes(denied))) throw lacksRights(response.server, denied);
      if (Errors.every(({ What, OpIndex }) => OpIndex < keys.length && What.endsWith(missing))) return undefined;
      throw this.#failure(response);
    }
    if (response.status !== 200) throw this.#failure(response);
    const found = (this.#parse(committed, response).Results ?? []).map(({ KV }) => keyValue(KV));
    if (!keys.every((key, n) => found[n]?.key === key)) throw lacksRights(response.server, denied);
    return found;
  }

  /** One key, linearizably, with a request that any server may forward. */
  async get(key: string, limits: Limits = {}): Promise<KeyValue | undefined> {
    const response = await this.#ask("GET", `kv/${key}`, { consistent: "" }, limits);
    return this.#pairs(response).find((pair) => pair.key === key);
  }

  /**
   * Waits until a key (or the tree below it) is past the index, or the time is over. @param wait milliseconds
   * @returns what there is now, and the index to wait past the next time
   */
  async block(
    key: string,
    options: { readonly tree?: boolean; readonly index: number; readonly wait: number; readonly signal: AbortSignal },
  ): Promise<{ readonly pairs: readonly KeyValue[]; readonly index: number }> {
    const { tree, index, wait, signal } = options;
    const query = {
      ...(tree && { recurse: "" }),
      ...(index > 0 && { index: String(index), wait: `${Math.round(wait)}ms` }),
    };
    // Consul adds up to a sixteenth of the time, so that not everybody asks at once.
    const timeout = index > 0 ? { timeout: Math.round(wait * (1 + 1 / 16)) + 1_500 } : {};
    const response = await this.#ask("GET", `kv/${key}`, query, { ...timeout, signal });
    const found = this.#pairs(response);
    const now = Number(response.headers["x-consul-index"]);
    // "Reset the index if it goes backwards; it must be greater than zero": Consul's rules for blocking queries.
    return { pairs: found, index: Number.isSafeInteger(now) && now >= index && now > 0 ? now : 0 };
  }

  /**
   * Writes everything or nothing; the first operation must be a write.
   * @throws NetworkError: nothing was written; LostAnswer: nobody knows
   */
  async commit(body: string, limits: Limits = {}): Promise<Commit> {
    let response: HttpResponse;
    try {
      response = await this.#http.request(this.#request("PUT", "txn", {}, limits, { body }));
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error;
      throw error.sent ? new LostAnswer(error.server, error.reason, error) : away(error.server, error.reason, error);
    }
    const { status, server } = response;
    if (status === 409) {
      const { Errors } = this.#parse(refused, response);
      return { ok: false, server, refusals: Errors.map(({ OpIndex, What }) => ({ operation: OpIndex, reason: What })) };
    }
    if (status !== 200) {
      if (status < 500 || untouched.test(response.body)) throw this.#failure(response);
      throw new LostAnswer(server, `status ${status}, ${shown(response.body.trim())}`, undefined);
    }
    // A check's result has the index of the key as it was: ours, the first operation, is a write.
    const index = committed.safeParse(json(response.body)).data?.Results?.[0]?.KV.ModifyIndex ?? 0;
    if (index === 0) {
      throw new LostAnswer(server, `no answer of a consul, ${shown(response.body)}`, undefined);
    }
    return { ok: true, index };
  }

  /** @param ttl seconds @returns the session's id */
  async createSession(ttl: number, limits: Limits = {}): Promise<string> {
    // Without node checks: where the address is a server's, its death must not end the leases of everybody.
    const body = JSON.stringify({ Name: "dnet", TTL: `${ttl}s`, Behavior: "delete", LockDelay: "0s", NodeChecks: [] });
    const response = await this.#ask("PUT", "session/create", {}, limits, { body });
    if (response.status !== 200) throw this.#failure(response);
    return this.#parse(session, response).ID;
  }

  /** False where the session is no more. */
  async renewSession(id: string, limits: Limits = {}): Promise<boolean> {
    const response = await this.#ask("PUT", `session/renew/${id}`, {}, limits, { repeatable: true });
    if (response.status === 404) return false;
    if (response.status !== 200) throw this.#failure(response);
    return true;
  }

  async destroySession(id: string, limits: Limits = {}): Promise<void> {
    const response = await this.#ask("PUT", `session/destroy/${id}`, {}, limits, { repeatable: true });
    if (response.status !== 200) throw this.#failure(response);
  }

  async #ask(
    method: "GET" | "PUT",
    path: string,
    query: Readonly<Record<string, string>>,
    limits: Limits,
    more: { readonly body?: string; readonly repeatable?: boolean } = {},
  ): Promise<HttpResponse> {
    try {
      return await this.#http.request(this.#request(method, path, query, limits, more));
    } catch (error) {
      throw error instanceof NoAnswer ? away(error.server, error.reason, error) : error;
    }
  }

  #request(
    method: "GET" | "PUT",
    path: string,
    query: Readonly<Record<string, string>>,
    { timeout, signal }: Limits,
    more: { readonly body?: string; readonly repeatable?: boolean },
  ): HttpRequest {
    const parameters = new URLSearchParams({
      ...query,
      ...(this.#datacenter !== undefined && { dc: this.#datacenter }),
    });
    return {
      method,
      path: `/v1/${path}?${parameters.toString()}`,
      ...(timeout !== undefined && { timeout: Math.max(1, Math.round(timeout)) }),
      ...(signal && { signal }),
      ...more,
    };
  }

  #pairs(response: HttpResponse): readonly KeyValue[] {
    if (response.status === 404) return [];
    if (response.status !== 200) throw this.#failure(response);
    return this.#parse(pairs, response).map(keyValue);
  }

  #parse<T>(schema: z.ZodType<T>, response: HttpResponse): T {
    const parsed = schema.safeParse(json(response.body));
    if (parsed.success) return parsed.data;
    throw noService("store-unavailable", `what answers at ${response.server} is no consul: ${shown(response.body)}`, {
      hint: "is the address of the store right?",
    });
  }

  #failure({ status, body, server }: HttpResponse): NetworkError {
    const reason = body.trim();
    if (status === 403) return lacksRights(server, reason);
    return noService("store-unavailable", `the consul store at ${server} cannot serve: ${shown(reason)} (${status})`, {
      hint: "see the log of the consul server; what runs here goes on without it",
    });
  }
}

/** A request was sent and its answer did not come or cannot be read: nobody knows what became of it. */
export class LostAnswer extends Error {
  readonly server: string;
  readonly reason: string;

  constructor(server: string, reason: string, cause: unknown) {
    super(`the consul store at ${server} did not say what it did: ${reason}`, { cause });
    this.name = "LostAnswer";
    this.server = server;
    this.reason = reason;
  }
}

export const away = (server: string, reason: string, cause?: unknown): NetworkError =>
  noService("store-unavailable", `the consul store at ${server} does not answer: ${reason}`, {
    cause,
    hint: "is it running, and is its address right? what runs here goes on without it",
  });

export const lacksRights = (server: string, reason: string): NetworkError =>
  noService("store-forbidden", `the token lacks rights in the consul store at ${server}: ${shown(reason)}`, {
    hint: "it needs write on key_prefix of our prefix, and on session_prefix",
  });

/** The body of a request that runs these operations as one. */
export const transactionBody = (operations: readonly Operation[]): string =>
  JSON.stringify(operations.map((KV) => ({ KV })));

const keyValue = ({ Key, Value, ModifyIndex, Session }: z.infer<typeof kv>): KeyValue => ({
  key: Key,
  text: Buffer.from(Value ?? "", "base64").toString(),
  index: ModifyIndex,
  session: Session ? Session : undefined,
});

const json = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};
