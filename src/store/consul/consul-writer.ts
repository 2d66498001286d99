import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { internal, NetworkError, noService, shown } from "../../errors.ts";
import type { Transaction, TransactionResult } from "../store.ts";
import { away, type ConsulClient, LostAnswer, lacksRights, type Refusal, sessionId } from "./consul-client.ts";
import { type Position, parseRevision, revisionKey } from "./consul-layout.ts";
import {
  type CompiledTransaction,
  compileTransaction,
  firstOperation,
  transactionRequest,
} from "./consul-operations.ts";

/** Milliseconds for which the others may be faster. */
const patience = 10_000;

interface Waiter {
  readonly go: () => void;
  readonly fail: (error: unknown) => void;
}

/**
 * Writes transactions, each after the one before: who comes second finds the revision moved, reads it and tries again. Those of
 * this store take turns, so that only stores compete with each other.
 */
export class ConsulWriter {
  readonly #client: ConsulClient;
  readonly #prefix: string;
  /** Milliseconds in which an attempt is over. */
  readonly #timeout: number;
  /** The last transaction, as far as known. */
  #last: Position | undefined;
  #busy = false;
  #waiting: Waiter[] = [];

  constructor(client: ConsulClient, options: { readonly prefix: string; readonly timeout: number }) {
    this.#client = client;
    this.#prefix = options.prefix;
    this.#timeout = options.timeout;
  }

  /** Somebody has seen a transaction. */
  learn(position: Position): void {
    if (!this.#last || position.index > this.#last.index) this.#last = position;
  }

  /** @throws NetworkError: nothing was written; LostAnswer: nobody knows */
  async transact(transaction: Transaction, signal?: AbortSignal): Promise<TransactionResult> {
    const compiled = compileTransaction(this.#prefix, transaction);
    if ((transaction.puts ?? []).some(({ lease }) => lease !== undefined && !sessionId.test(lease))) throw leaseLost();
    signal?.throwIfAborted();
    await this.#turn(signal);
    try {
      return await this.#write(compiled, signal);
    } catch (error) {
      // Who waits behind one that got no answer would wait as long for the same.
      if (error instanceof LostAnswer) this.#failAll(away(error.server, error.reason, error));
      else if (error instanceof NetworkError && error.code === "store-unavailable") this.#failAll(error);
      throw error;
    } finally {
      const next = this.#waiting.shift();
      if (next) next.go();
      else this.#busy = false;
    }
  }

  #turn(signal: AbortSignal | undefined): Promise<void> {
    if (!this.#busy) {
      this.#busy = true;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#waiting = this.#waiting.filter((one) => one !== waiter);
        reject(signal?.reason);
      };
      const done = (end: () => void) => {
        signal?.removeEventListener("abort", onAbort);
        end();
      };
      const waiter: Waiter = { go: () => done(resolve), fail: (error) => done(() => reject(error)) };
      this.#waiting.push(waiter);
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }

  #failAll(error: NetworkError): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { fail } of waiting) fail(error);
  }

  async #write(compiled: CompiledTransaction, signal: AbortSignal | undefined): Promise<TransactionResult> {
    const giveUp = performance.now() + patience;
    for (let attempt = 0; ; attempt++) {
      const end = performance.now() + this.#timeout;
      const limits = () => ({ timeout: end - performance.now(), signal });
      const last = this.#last ?? parseRevision(await this.#client.get(this.#prefix + revisionKey, limits()));
      const id = randomBytes(8).toString("hex");
      const body = transactionRequest(this.#prefix, compiled, last, id);
      const commit = await this.#client.commit(body, limits());
      if (commit.ok) {
        this.#last = { sequence: last.sequence + 1, id, index: commit.index };
        return { ok: true, version: commit.index };
      }
      this.#last = undefined;
      const conflicts = judge(compiled, commit.refusals, commit.server);
      if (conflicts.length > 0) return { ok: false, conflicts };
      if (performance.now() > giveUp) {
        throw internal("contention", "nothing was written: other nodes change the consul store too often", {
          hint: "try again",
        });
      }
      // The first time at once: most often there was one other.
      if (attempt > 0) await delay(Math.random() * Math.min(50, 2 ** attempt), undefined, { signal });
    }
  }
}

/** Keys whose check did not hold; none where only our revision had moved. @throws NetworkError for every other refusal */
const judge = (compiled: CompiledTransaction, refusals: readonly Refusal[], server: string): readonly string[] => {
  const conflicts = new Set<string>();
  for (const { operation, reason } of refusals) {
    if (operation === 0 && reason.endsWith("index is stale")) continue;
    const key = compiled.keys[operation - firstOperation];
    const verb = compiled.operations[operation - firstOperation]?.Verb;
    if (verb === "lock" && /session/.test(reason)) throw leaseLost();
    if (key === undefined || verb === undefined || !/^(check|cas)/.test(verb) || reason.endsWith("Permission denied")) {
      throw refused(server, reason);
    }
    conflicts.add(key);
  }
  return [...conflicts];
};

export const leaseLost = () => noService("lease-lost", "the lease has expired");

/** An operation that consul refused for a reason of its own. */
export const refused = (server: string, reason: string): NetworkError =>
  reason.endsWith("Permission denied")
    ? lacksRights(server, reason)
    : noService("store-refused", `the consul store at ${server} refused to write: ${shown(reason)}`);
