import { chmodSync, closeSync, openSync, renameSync, rmSync } from "node:fs";
import { backup, type DatabaseSync } from "node:sqlite";
import { errorText } from "../../errors.ts";

/** Milliseconds from a change to the copy that has it: many changes make one. */
const pause = 5_000;

/** The copy of a store's file, beside it. */
export const copyPath = (path: string): string => `${path}.copy`;

/** Keeps a second, whole and consistent copy of a database: what is left when the first cannot be read. */
export class StoreCopy {
  readonly #database: DatabaseSync;
  readonly #path: string;
  readonly #log: (message: string) => void;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();
  #dirty = false;
  #complaint = "";

  /** @param path of the database */
  constructor(database: DatabaseSync, path: string, log: (message: string) => void) {
    this.#database = database;
    this.#path = copyPath(path);
    this.#log = log;
  }

  /** Something was committed. */
  changed(): void {
    this.#dirty = true;
    this.#timer ??= setTimeout(() => void this.#make(), pause).unref();
  }

  #make(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#dirty = false;
    this.#running = this.#running.then(() => this.#write());
    return this.#running;
  }

  /** The one before stays until the new one is whole and on the disk. */
  async #write(): Promise<void> {
    const next = `${this.#path}.new`;
    try {
      rmSync(next, { force: true });
      closeSync(openSync(next, "a", 0o600));
      chmodSync(next, 0o600);
      await backup(this.#database, next);
      renameSync(next, this.#path);
      this.#complaint = "";
    } catch (error) {
      const reason = errorText(error);
      if (reason !== this.#complaint) this.#log(`could not copy the store to ${this.#path}: ${reason}`);
      this.#complaint = reason;
      rmSync(next, { force: true });
    }
  }

  /** Copies what is not copied yet; call it before the database is closed. */
  async close(): Promise<void> {
    if (this.#dirty) await this.#make();
    clearTimeout(this.#timer);
    await this.#running;
  }
}
