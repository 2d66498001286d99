import { noService } from "../errors.ts";
import type { Lease, Store, StoreEntry, Transaction, TransactionResult, WatchEvent } from "../store/store.ts";
import { atRead, betweenAsync, type FaultError, type Faults } from "./faults.ts";

/** As the contract has it: a store that says so wrote nothing; any other error is an answer that got lost. */
const error: FaultError = (text, moment) =>
  moment === "before" ? noService("store-unavailable", `the store does not answer: ${text}`) : new Error(text);

/** Keys without ids, so that a point's name says what it is about. */
const nameOf = ({ puts = [], deletes = [] }: Transaction): string => {
  const rooms = (keys: readonly string[]) => [...new Set(keys.map((key) => key.split("/").slice(0, 2).join("/")))];
  return `put ${rooms(puts.map(({ key }) => key)).join(" ") || "nothing"}, delete ${rooms(deletes).join(" ") || "nothing"}`;
};

/** A store in front of another, with points of failure. Watches are the other's. */
export class FaultyStore implements Store {
  readonly #faults: Faults;
  readonly #name: string;
  readonly #store: Store;

  constructor(faults: Faults, name: string, store: Store) {
    this.#faults = faults;
    this.#name = `store ${name}`;
    this.#store = store;
  }

  get(key: string, signal?: AbortSignal): Promise<StoreEntry | undefined> {
    return this.#read(`get ${key}`, () => this.#store.get(key, signal));
  }

  list(prefix: string, signal?: AbortSignal): Promise<readonly StoreEntry[]> {
    return this.#read(`list ${prefix}`, () => this.#store.list(prefix, signal));
  }

  version(signal?: AbortSignal): Promise<number> {
    return this.#read("version", () => this.#store.version(signal));
  }

  transact(transaction: Transaction, signal?: AbortSignal): Promise<TransactionResult> {
    const name = `${this.#name}: ${nameOf(transaction)}`;
    return betweenAsync(this.#faults, name, error, () => this.#store.transact(transaction, signal));
  }

  synced(): Promise<void> {
    return this.#read("synced", async () => this.#store.synced?.());
  }

  watch(prefix: string, signal: AbortSignal): AsyncIterable<WatchEvent> {
    return this.#store.watch(prefix, signal);
  }

  lease(ttl: number, signal?: AbortSignal): Promise<Lease> {
    return betweenAsync(this.#faults, `${this.#name}: lease`, error, () => this.#store.lease(ttl, signal));
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  #read<T>(what: string, work: () => Promise<T>): Promise<T> {
    return atRead(this.#faults, `${this.#name}: ${what}`, error, work);
  }
}
