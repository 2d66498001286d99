import type { Json, Store, WatchEvent } from "../../src/store/store.ts";
import { eventually } from "../own-host.ts";

/** Other tests may have the machine. */
const deadline = 60_000;

/** What somebody knows who only watches. */
export class Replica {
  readonly events: WatchEvent[] = [];
  readonly state = new Map<string, Json>();
  readonly #abort = new AbortController();
  readonly #ended: Promise<void>;

  constructor(store: Store, prefix = "") {
    this.#ended = this.#follow(store.watch(prefix, this.#abort.signal));
  }

  async #follow(watch: AsyncIterable<WatchEvent>): Promise<void> {
    for await (const event of watch) {
      if (event.kind === "snapshot") {
        this.state.clear();
        for (const { key, value } of event.entries) this.state.set(key, value);
      } else if (event.kind === "change") {
        for (const { key, value } of event.puts) this.state.set(key, value);
        for (const key of event.deletes) this.state.delete(key);
      }
      this.events.push(event);
    }
  }

  get last(): WatchEvent | undefined {
    return this.events.at(-1);
  }

  get lost(): boolean {
    return this.last?.kind === "lost";
  }

  of<K extends WatchEvent["kind"]>(kind: K): Extract<WatchEvent, { kind: K }>[] {
    return this.events.filter((event): event is Extract<WatchEvent, { kind: K }> => event.kind === kind);
  }

  async until(what: string, condition: (replica: this) => boolean): Promise<void> {
    await eventually(
      `${what}; last event ${JSON.stringify(this.last)?.slice(0, 300)}`,
      () => condition(this),
      deadline,
    );
  }

  /** Until it has come as far as the store was at the call. */
  async caughtUp(store: Store): Promise<void> {
    const version = await store.version();
    await this.until("caught up", ({ events }) => {
      const told = events.findLast((event) => event.kind !== "lost");
      return told !== undefined && told.version >= version && !this.lost;
    });
  }

  async end(): Promise<void> {
    this.#abort.abort();
    await this.#ended;
  }
}

/** What a list says, as a replica holds it. */
export const listed = async (store: Store, prefix = ""): Promise<Map<string, Json>> =>
  new Map((await store.list(prefix)).map(({ key, value }) => [key, value]));
