import { fdatasync } from "node:fs";
import { promisify } from "node:util";
import { errorText, noService } from "../../errors.ts";

/**
 * Brings a write-ahead log to the disk beside other work, in libuv's threads: one sync serves all that was written before it
 * began. A sync that fails is the end: the kernel may have dropped what it could not write, and the next one would succeed
 * without it (fsync(2) since Linux 4.13).
 */
export class LogSync {
  readonly #sync: () => Promise<void>;
  /** Changes that were written, and how many of them are on the disk. */
  #written = 0;
  #synced = 0;
  /** The sync that is under way. */
  #running: Promise<void> | undefined;
  #failure: unknown;

  constructor(fd: number, sync: (fd: number) => Promise<void> = promisify(fdatasync)) {
    this.#sync = () => sync(fd);
  }

  /** Why nothing can be written any more; undefined while it can. */
  get failure(): string | undefined {
    return this.#failure === undefined ? undefined : `the disk failed: ${errorText(this.#failure)}`;
  }

  /** Something was written: it goes to the disk from now on. */
  changed(): void {
    this.#written++;
    this.#running ??= this.#round();
  }

  async #round(): Promise<void> {
    const upTo = this.#written;
    try {
      await this.#sync();
      this.#synced = upTo;
    } catch (error) {
      this.#failure = error;
    }
    const more = this.#failure === undefined && this.#synced < this.#written;
    this.#running = more ? this.#round() : undefined;
  }

  /** When all that was written before the call is on the disk. @throws NetworkError `store-unavailable` where it never will be */
  async done(): Promise<void> {
    const upTo = this.#written;
    while (this.#synced < upTo && this.#failure === undefined) await this.#running;
    if (this.#synced < upTo) throw this.refusal();
  }

  /** @returns the error for whoever writes after a sync that failed */
  refusal(): Error {
    return noService("store-unavailable", `the embedded store could not write: ${this.failure}`, {
      cause: this.#failure,
      hint: "mend the disk, then start the daemon anew",
    });
  }

  /** When nothing is under way any more. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running;
  }
}
