import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

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
export const dnet = (...args: readonly string[]): Ran => {
  const { status, stdout, stderr } = spawnSync(executable, args, {
    encoding: "utf8",
    env: environment(),
    timeout: 60_000,
  });
  return { status, stdout, stderr };
};

/** The same, which must succeed. @returns standard output without the last newline */
export const ok = (...args: readonly string[]): string => {
  const { status, stdout, stderr } = dnet(...args);
  if (status !== 0 || stderr !== "") throw new Error(`dnet ${args.join(" ")}: status ${status}\n${stdout}${stderr}`);
  return stdout.replace(/\n$/, "");
};

export class DaemonProcess {
  readonly #child: ChildProcess;
  readonly #exited: Promise<number | null>;
  log = "";

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#exited = new Promise((resolve) => child.once("exit", (code) => resolve(code)));
    child.stderr?.on("data", (chunk: Buffer) => {
      this.log += chunk.toString();
    });
  }

  /** Starts `dnet -d ARGS` and waits until it says that it is ready. */
  static async start(...args: readonly string[]): Promise<DaemonProcess> {
    const child = spawn(executable, ["-d", ...args], { stdio: ["ignore", "ignore", "pipe"], env: environment() });
    const daemon = new DaemonProcess(child);
    const deadline = AbortSignal.timeout(30_000);
    await new Promise<void>((resolve, reject) => {
      const fail = () => reject(new Error(`the daemon did not become ready:\n${daemon.log}`));
      child.stderr?.on("data", () => daemon.log.includes(" is ready") && resolve());
      child.once("exit", fail);
      deadline.addEventListener("abort", fail, { once: true });
    });
    return daemon;
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
