import { type NetworkError, noService } from "../errors.ts";
import type { Lease, Store, StoreEntry, TransactionResult, WatchEvent } from "./store.ts";

/** In the place of a store that cannot be had: it holds nothing, and every change fails at once and says why. */
export class AbsentStore implements Store {
  readonly #reason: string;
  readonly #hint: string;

  constructor(reason: string, hint: string) {
    this.#reason = reason;
    this.#hint = hint;
  }

  #refusal(): NetworkError {
    return noService("store-unavailable", this.#reason, { hint: this.#hint });
  }

  async get(): Promise<StoreEntry | undefined> {
    return undefined;
  }
  async list(): Promise<readonly StoreEntry[]> {
    return [];
  }
  async transact(): Promise<TransactionResult> {
    throw this.#refusal();
  }
  async version(): Promise<number> {
    throw this.#refusal();
  }
  async *watch(_prefix: string, signal: AbortSignal): AsyncIterable<WatchEvent> {
    yield { kind: "snapshot", version: 0, entries: [] };
    yield { kind: "lost", reason: this.#reason };
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
  }
  async lease(): Promise<Lease> {
    throw this.#refusal();
  }
  async close(): Promise<void> {}
}
