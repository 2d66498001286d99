import { readFile, rename, writeFile } from "node:fs/promises";
import * as z from "zod";
import { errorText } from "../errors.ts";
import type { Json, StoreEntry } from "../store/store.ts";

/** What the shared store said last, kept on this host: with it names and peers live on when a daemon starts and the store is away. */
export interface GlobalCopy {
  load(): Promise<readonly StoreEntry[]>;
  /** Soon, with what there is then: many calls make one write. */
  save(entries: () => readonly StoreEntry[]): void;
  /** Now. */
  flush(entries: readonly StoreEntry[]): Promise<void>;
}

const schema = z.object({
  version: z.literal(1),
  entries: z.array(z.object({ key: z.string(), value: z.json() })).max(1_000_000),
});

/** Milliseconds between two writes: a change costs no write of its own. */
const pause = 2_000;

/** The copy as a JSON file, replaced as a whole. */
export class FileCopy implements GlobalCopy {
  readonly #path: string;
  readonly #log: (level: "warning", message: string) => void;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(path: string, log: (level: "warning", message: string) => void) {
    this.#path = path;
    this.#log = log;
  }

  /** A copy that is missing or damaged is none: the store has the truth. */
  async load(): Promise<readonly StoreEntry[]> {
    let text: string;
    try {
      text = await readFile(this.#path, "utf8");
    } catch {
      return [];
    }
    try {
      const { entries } = schema.parse(JSON.parse(text));
      return entries.map(({ key, value }) => ({ key, value: value as Json, version: 0 }));
    } catch (error) {
      this.#log("warning", `${this.#path} is damaged and not used: ${errorText(error).slice(0, 200)}`);
      return [];
    }
  }

  save(entries: () => readonly StoreEntry[]): void {
    this.#timer ??= setTimeout(() => void this.flush(entries()), pause);
  }

  async flush(entries: readonly StoreEntry[]): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const text = JSON.stringify({ version: 1, entries: entries.map(({ key, value }) => ({ key, value })) });
    this.#writing = this.#writing.then(() => this.#write(text));
    await this.#writing;
  }

  async #write(text: string): Promise<void> {
    try {
      await writeFile(`${this.#path}.new`, text, { mode: 0o600, flush: true });
      await rename(`${this.#path}.new`, this.#path);
    } catch (error) {
      this.#log("warning", `could not write ${this.#path}: ${errorText(error)}`);
    }
  }
}
