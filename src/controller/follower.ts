import type { Scope } from "../drivers/driver.ts";
import { errorText, noService } from "../errors.ts";
import type { Store } from "../store/store.ts";
import type { Stale } from "./model.ts";
import type { RecordChanges, State } from "./state.ts";

export interface FollowerOptions {
  readonly scope: Scope;
  readonly store: Store;
  readonly state: State;
  /** Called at every change, one's own too. */
  readonly onEvent?: () => void;
  /** Told of what others changed, in order, one after the other. */
  readonly onChange: (changes: RecordChanges) => Promise<void>;
  /** Called when a store that answered does not any more. */
  readonly onLost?: () => void;
  /** Called when a store that did not answer at the start, or was lost, has told what it holds. */
  readonly onBack?: () => Promise<void>;
  readonly log: (level: "debug" | "info" | "warning" | "error", message: string) => void;
}

/** Changes that may wait to be acted on before the watch waits for them. */
const dueLimit = 1_000;
/** Milliseconds that a read waits for the watch to come as far as the store says it must. */
const behindDeadline = 1_500;
/** Milliseconds that a start waits for the store before it goes on without. */
const startDeadline = 5_000;
/** After a read for which the store had no answer, the next ones ask again after this many milliseconds. */
const askAgain = 1_000;

interface Waiter {
  readonly version: number;
  resolve(): void;
}

/**
 * Keeps the state of one scope in step with a store that others write too. Reads are served from memory, behind a barrier: `sync`
 * asks the store for the version of its newest transaction, one small round trip, and waits until the watch has told that much.
 */
export class Follower {
  readonly #options: FollowerOptions;
  readonly #abort = new AbortController();
  readonly #waiters = new Set<Waiter>();
  readonly #first = Promise.withResolvers<boolean>();
  #told: Promise<void> = Promise.resolve();
  #due = 0;
  #running: Promise<void> = Promise.resolve();
  #started = false;
  #seen = 0;
  #stale: Stale | undefined = { since: new Date(), reason: "the store has not been read yet" };
  #lost = true;
  #asking: Promise<number> | undefined;
  #next: Promise<number> | undefined;
  #askedAt = 0;

  constructor(options: FollowerOptions) {
    this.#options = options;
  }

  /** Undefined while the store answers. */
  get stale(): Stale | undefined {
    return this.#stale;
  }

  /** Begins to follow. @returns true when the store has been read once; false as soon as it turns out not to answer */
  async start(signal?: AbortSignal): Promise<boolean> {
    const { state, scope } = this.#options;
    state.catchUp[scope] = (signal) => this.catchUp(signal);
    state.followed[scope] = () => this.followed();
    state.learned[scope] = (changes) => void this.#act(changes);
    this.#running = this.#follow();
    const deadline = AbortSignal.timeout(startDeadline);
    const given = signal ? AbortSignal.any([signal, deadline]) : deadline;
    given.addEventListener("abort", () => this.#first.resolve(false), { once: true });
    const read = await this.#first.promise;
    this.#started = true;
    signal?.throwIfAborted();
    return read;
  }

  async #follow(): Promise<void> {
    const { store, scope, state, onBack, log } = this.#options;
    for await (const event of store.watch(`${scope}/`, this.#abort.signal)) {
      if (event.kind === "lost") {
        if (!this.#lost) {
          log("warning", `the ${scope} store is lost: ${event.reason}; reads are served from memory`);
          this.#options.onLost?.();
        }
        this.#lost = true;
        this.#setStale(event.reason);
        this.#first.resolve(false);
        continue;
      }
      const changes = state.absorb(scope, event);
      if (this.#lost) log("info", `the ${scope} store answers: in step at version ${event.version}`);
      const back = this.#lost && this.#started;
      this.#lost = false;
      this.#stale = undefined;
      // A store that was replaced counts from the beginning again.
      this.#seen = event.kind === "snapshot" ? event.version : Math.max(this.#seen, event.version);
      this.#first.resolve(true);
      if (event.kind === "snapshot" || event.puts.length + event.deletes.length > 0) this.#options.onEvent?.();
      for (const waiter of this.#waiters) if (waiter.version <= this.#seen) waiter.resolve();
      await this.#act(changes);
      if (back && onBack) await this.#tell(onBack);
    }
  }

  async #act(changes: RecordChanges): Promise<void> {
    if (changes.networks.length + changes.endpoints.length === 0) return;
    await this.#tell(() => this.#options.onChange(changes));
  }

  /** Reads do not wait for what is done about a change; the watch does when too much of it is due. */
  async #tell(work: () => Promise<void>): Promise<void> {
    const { log } = this.#options;
    this.#due++;
    this.#told = this.#told
      .then(work)
      .catch((error: unknown) => log("error", `what others changed could not be followed: ${errorText(error)}`))
      .finally(() => this.#due--);
    if (this.#due > dueLimit) await this.#told;
  }

  #setStale(reason: string): void {
    this.#stale = { since: this.#stale?.since ?? new Date(), reason };
  }

  /**
   * Waits until everything that had been written anywhere when the call began is known here.
   * @returns since when what is known may be out of date, where the store does not answer
   */
  async sync(signal?: AbortSignal): Promise<Stale | undefined> {
    if (this.#isAway()) return this.#stale;
    try {
      await this.catchUp(signal);
      this.#stale = undefined;
    } catch (error) {
      signal?.throwIfAborted();
      this.#askedAt = performance.now();
      this.#setStale(errorText(error));
    }
    return this.#stale;
  }

  /**
   * Waits until everything that had been written anywhere when the call began is known here, and what is done about it is done.
   * @returns undefined, at once, where the store is known not to answer
   */
  followed(): Promise<void> | undefined {
    if (this.#isAway()) return undefined;
    return this.sync().then(() => this.#told);
  }

  /** True while asking the store would be in vain. */
  #isAway(): boolean {
    return this.#lost || (this.#stale !== undefined && performance.now() - this.#askedAt < askAgain);
  }

  /** The same for changes, which need the store. @throws NetworkError `store-unavailable`, `store-behind` */
  async catchUp(signal?: AbortSignal): Promise<void> {
    const version = await this.#version();
    if (version <= this.#seen) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const waiter: Waiter = { version, resolve };
    const deadline = AbortSignal.timeout(behindDeadline);
    const given = signal ? AbortSignal.any([signal, deadline]) : deadline;
    given.addEventListener("abort", () => resolve(), { once: true });
    this.#waiters.add(waiter);
    await promise;
    this.#waiters.delete(waiter);
    signal?.throwIfAborted();
    if (version > this.#seen) {
      throw noService("store-behind", `what the ${this.#options.scope} store tells of others' changes is late`, {
        hint: "try again",
      });
    }
  }

  /** One question to the store at a time: whoever comes while one is under way shares the next. */
  #version(): Promise<number> {
    if (!this.#asking) {
      this.#asking = this.#options.store.version().finally(() => {
        this.#asking = this.#next;
        this.#next = undefined;
      });
      return this.#asking;
    }
    this.#next ??= this.#asking
      .catch(() => undefined)
      .then(() => this.#options.store.version())
      .finally(() => {
        this.#asking = this.#next;
        this.#next = undefined;
      });
    return this.#next;
  }

  async close(): Promise<void> {
    this.#abort.abort();
    await this.#running;
    await this.#told;
  }
}
