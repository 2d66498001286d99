import { errorText } from "../../errors.ts";
import type { Log } from "../log.ts";
import type { SerfRpcClient } from "./rpc-client.ts";

/** Takes a user event. What it throws is logged. */
export type UserEventHandler = (payload: Buffer) => void | Promise<void>;
/** Answers a query with at most 800 bytes; undefined is no answer. */
export type QueryHandler = (payload: Buffer, signal: AbortSignal) => Promise<Uint8Array | undefined>;

/** Handlers that may be at work at the same time; what comes then is dropped, as a lost packet would be. */
const maxAtWork = 64;
/** Milliseconds that a handler of a query has; those who ask wait no longer. */
const deadline = 10_000;

/** Who handles which user events and queries. Nothing that comes, and nothing that a handler throws, gets further than the log. */
export class Handlers {
  readonly #log: Log;
  readonly #events = new Map<string, Set<UserEventHandler>>();
  readonly #queries = new Map<string, QueryHandler>();
  readonly #abort = new AbortController();
  #atWork = 0;

  constructor(log: Log) {
    this.#log = log;
  }

  onUserEvent(name: string, handler: UserEventHandler): () => void {
    const handlers = this.#events.get(name) ?? new Set();
    this.#events.set(name, handlers.add(handler));
    return () => {
      handlers.delete(handler);
      if (handlers.size === 0) this.#events.delete(name);
    };
  }

  onQuery(name: string, handler: QueryHandler): () => void {
    this.#queries.set(name, handler);
    return () => {
      if (this.#queries.get(name) === handler) this.#queries.delete(name);
    };
  }

  userEvent(name: string, payload: Buffer): void {
    for (const handler of this.#events.get(name) ?? []) this.#work(`user event ${name}`, async () => handler(payload));
  }

  query(client: SerfRpcClient, query: { readonly id: number; readonly name: string; readonly payload: Buffer }): void {
    const handler = this.#queries.get(query.name);
    if (!handler) return;
    this.#work(`query ${query.name}`, async () => {
      const signal = AbortSignal.any([this.#abort.signal, AbortSignal.timeout(deadline)]);
      const answer = await handler(query.payload, signal);
      if (answer !== undefined && !signal.aborted) await client.respond(query.id, answer, signal);
    });
  }

  close(): void {
    this.#abort.abort();
  }

  #work(what: string, work: () => Promise<void>): void {
    if (this.#abort.signal.aborted) return;
    if (this.#atWork >= maxAtWork) {
      this.#log("warning", `serf: ${what} is dropped: ${maxAtWork} are at work`);
      return;
    }
    this.#atWork++;
    work()
      .catch((error: unknown) => {
        if (!this.#abort.signal.aborted) this.#log("warning", `serf: ${what}: ${errorText(error)}`);
      })
      .finally(() => {
        this.#atWork--;
      });
  }
}
