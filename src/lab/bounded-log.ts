import { appendFileSync, readFileSync, renameSync, statSync } from "node:fs";

/** Bytes of a log file; then it becomes FILE.1 and a new one begins. */
const limit = 16 << 20;

/** A log file that does not fill the file system (of memory, usually) that the lab's directory is on. */
export class BoundedLog {
  readonly #path: string;
  #size: number;

  constructor(path: string) {
    this.#path = path;
    this.#size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  }

  write(chunk: Buffer | string): void {
    try {
      if (this.#size > limit) {
        renameSync(this.#path, `${this.#path}.1`);
        this.#size = 0;
      }
      appendFileSync(this.#path, chunk);
      this.#size += chunk.length;
    } catch {
      // The lab's directory is going away, or its file system is full: the lab does not end for that.
    }
  }
}

/** All of a log that is left; empty where nothing was ever written. */
export const readLog = (path: string): string => {
  const read = (file: string): string => {
    try {
      return readFileSync(file, "utf8");
    } catch (error) {
      if ((error as { code?: string }).code === "ENOENT") return "";
      throw error;
    }
  };
  return read(`${path}.1`) + read(path);
};
