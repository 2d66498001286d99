import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { closeSync, fstatSync, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { eventually } from "../own-host.ts";

/** The built executable, run in the test's own host. */

const executable = fileURLToPath(new URL("../../bin/dnet", import.meta.url));

export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The environment without what would lead dnet elsewhere. */
const environment = (more: Readonly<Record<string, string>> = {}): Record<string, string> => ({
  PATH: process.env.PATH ?? "",
  ...more,
});

/** `dnet ARGS`, as a person types it. */
export const dnet = (...args: readonly string[]): Ran => dnetIn({}, ...args);

/** The same, with more in its environment. */
export const dnetIn = (more: Readonly<Record<string, string>>, ...args: readonly string[]): Ran => {
  const { status, stdout, stderr } = spawnSync(executable, args, {
    encoding: "utf8",
    env: environment(more),
    timeout: 150_000,
  });
  return { status, stdout, stderr };
};

/** The same, which must succeed. @returns standard output without the last newline */
export const ok = (...args: readonly string[]): string => {
  const { status, stdout, stderr } = dnet(...args);
  if (status !== 0 || stderr !== "") throw new Error(`dnet ${args.join(" ")}: status ${status}\n${stdout}${stderr}`);
  return stdout.replace(/\n$/, "");
};

const fileWithoutName = (): number => {
  const directory = mkdtempSync(join(tmpdir(), "dnet-log-"));
  const fd = openSync(join(directory, "log"), "a+");
  rmSync(directory, { recursive: true });
  return fd;
};

const readAll = (fd: number): string => {
  const bytes = Buffer.alloc(fstatSync(fd).size);
  return bytes.toString("utf8", 0, readSync(fd, bytes, 0, bytes.length, 0));
};

export class DaemonProcess {
  readonly #child: ChildProcess;
  readonly #exited: Promise<number | null>;
  readonly #log: number;
  #lastLog: string | undefined;

  private constructor(child: ChildProcess, log: number) {
    this.#child = child;
    this.#log = log;
    this.#exited = new Promise((resolve) =>
      child.once("exit", (code) => {
        this.#lastLog = this.log;
        closeSync(log);
        resolve(code);
      }),
    );
  }

  /** Starts `dnet -d ARGS` and waits until it says that it is ready. */
  static start(...args: readonly string[]): Promise<DaemonProcess> {
    return DaemonProcess.startIn({}, ...args);
  }

  /** The same, with more in its environment. */
  static startIn(more: Readonly<Record<string, string>>, ...args: readonly string[]): Promise<DaemonProcess> {
    return DaemonProcess.#start([executable, "-d", ...args], more);
  }

  /** The same, which may open so many files. */
  static startWithFiles(files: number, ...args: readonly string[]): Promise<DaemonProcess> {
    return DaemonProcess.#start(["prlimit", `--nofile=${files}`, executable, "-d", ...args], {});
  }

  static async #start(command: readonly string[], more: Readonly<Record<string, string>>): Promise<DaemonProcess> {
    const log = fileWithoutName();
    const [program = "", ...words] = command;
    const child = spawn(program, words, { stdio: ["ignore", "ignore", log], env: environment(more) });
    const daemon = new DaemonProcess(child, log);
    const running = () => child.exitCode === null && child.signalCode === null;
    await eventually("ready, or ended", () => !running() || daemon.log.includes(" is ready"), 30_000).catch(() => {});
    if (running() && daemon.log.includes(" is ready")) return daemon;
    throw new Error(`the daemon did not become ready:\n${daemon.log}`);
  }

  /**
   * All that it has logged until now. It is read from a file: what comes through a pipe would be seen only when this
   * process's event loop turns, and not right after a command that was waited for.
   */
  get log(): string {
    return this.#lastLog ?? readAll(this.#log);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** @returns the exit status; null where a signal ended it */
  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<number | null> {
    this.#child.kill(signal);
    return this.#exited;
  }
}
