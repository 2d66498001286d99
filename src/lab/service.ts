import { type ChildProcess, spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { internal } from "../errors.ts";
import { BoundedLog } from "./bounded-log.ts";
import { endsWithin, insideEnvironment, type Place, stepDeadline } from "./place.ts";

export interface ServiceOptions {
  /** `dnet`, `store`: names its log and pid file in the place's directory. */
  readonly name: string;
  readonly place: Place;
  /** The place's directory, as the caller sees it; inside it is /run/lab. */
  readonly directory: string;
  readonly command: readonly string[];
  /** Asked again and again until it is true. */
  readonly ready: () => Promise<boolean>;
}

/** Milliseconds between two questions whether a service is ready. */
const pause = 50;
/** Characters of a log that go into an error. */
const tail = 600;

/** A long-running program in a place: a daemon, a store. */
export class Service {
  readonly #options: ServiceOptions;
  readonly #log: BoundedLog;
  #child: ChildProcess | undefined;
  #exited: Promise<void> = Promise.resolve();
  #last = "";

  constructor(options: ServiceOptions) {
    this.#options = options;
    this.#log = new BoundedLog(join(options.directory, `${options.name}.log`));
  }

  get running(): boolean {
    return this.#child !== undefined;
  }

  /** Starts it, where it does not run, and waits until it is ready. @throws NetworkError `lab-service` with the end of its log */
  async start(): Promise<void> {
    if (this.#child) return;
    const { name, place, command, ready } = this.#options;
    const enter = [...place.enter(), "sh", "-ec", 'echo $$ >"/run/lab/$0.pid"; exec "$@"', name, ...command];
    const [program = "", ...args] = enter;
    const child = spawn(program, args, { env: insideEnvironment(), cwd: "/", stdio: ["ignore", "pipe", "pipe"] });
    this.#child = child;
    this.#last = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk: Buffer) => {
        this.#log.write(chunk);
        this.#last = (this.#last + chunk.toString()).slice(-tail);
      });
    }
    this.#exited = new Promise((resolve) => {
      const gone = () => {
        this.#child = undefined;
        rmSync(this.#pidFile, { force: true });
        resolve();
      };
      child.once("exit", gone);
      child.once("error", gone);
    });
    const end = performance.now() + stepDeadline;
    while (!(await ready())) {
      if (!this.running) throw internal("lab-service", `${name} ended as it started:\n${this.#last}`);
      if (performance.now() > end) {
        await this.stop("KILL");
        throw internal("lab-service", `${name} was not ready within ${stepDeadline / 1000} s:\n${this.#last}`);
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  /** Ends it, where it runs, and waits for its end; what does not end in time is killed. @throws NetworkError `lab-service` */
  async stop(signal: "TERM" | "KILL"): Promise<void> {
    for (const kind of [signal, "KILL"] as const) {
      if (!this.running) return;
      await this.#signal(kind);
      if (await endsWithin(this.#exited, stepDeadline / 2)) return;
    }
    throw internal("lab-service", `${this.#options.name} does not end`);
  }

  /** By the pid inside: the child that is known here is nsenter, which only waits. It may have ended by itself. */
  async #signal(kind: "TERM" | "KILL"): Promise<void> {
    const script = 'read -r pid <"/run/lab/$2.pid"; kill -s "$1" "$pid"';
    await this.#options.place.script(`{ ${script}; } 2>/dev/null || true`, [kind, this.#options.name]);
    // nsenter stops itself when its child is stopped, and would not see its end.
    this.#child?.kill("SIGCONT");
  }

  /** To be called when the place is about to end: a stopped nsenter would not reap its child, and the place would wait for that. */
  release(): void {
    this.#child?.kill("SIGKILL");
  }

  get #pidFile(): string {
    return join(this.#options.directory, `${this.#options.name}.pid`);
  }
}
