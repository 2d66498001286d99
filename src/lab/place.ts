import { type ChildProcess, execFile, spawn } from "node:child_process";
import { errorText, internal } from "../errors.ts";
import { searchPath } from "./programs.ts";

/** A set of namespaces with a first process; whatever runs inside ends with it. */

/** Milliseconds for a step of setting up; a loaded machine takes seconds where an idle one takes milliseconds. */
export const stepDeadline = 60_000;

type Namespace = "mount" | "net" | "uts" | "pid";
const all: readonly Namespace[] = ["mount", "net", "uts", "pid"];

/** The words before a command that run it inside. @param pid of the first process, as the caller sees it */
export const enterCommand = (
  pid: number,
  userNamespace: boolean,
  namespaces: readonly Namespace[] = all,
): readonly [string, ...string[]] => [
  "nsenter",
  "--target",
  String(pid),
  // Only the first uid is mapped, so that there are no groups to set.
  ...(userNamespace ? ["--user", "--preserve-credentials"] : []),
  ...namespaces.map((namespace) => `--${namespace}`),
  "--",
];

/** What runs inside sees this of the caller's environment and nothing else. */
export const insideEnvironment = (): Record<string, string> => ({
  PATH: searchPath(),
  HOME: process.env.HOME ?? "/root",
  LANG: process.env.LANG ?? "C.UTF-8",
});

/** Waits for an end. @returns false where it has not come in time */
export const endsWithin = async (end: Promise<void>, milliseconds: number): Promise<boolean> => {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), milliseconds);
  });
  const ended = await Promise.race([end.then(() => true), late]);
  clearTimeout(timer);
  return ended;
};

/** Runs a command outside to its end. @returns what it printed; @throws NetworkError `lab-command` with its words */
export const runCommand = (command: readonly string[], input = ""): Promise<string> =>
  new Promise((resolve, reject) => {
    const [program = "", ...args] = command;
    const options = { env: insideEnvironment(), cwd: "/", timeout: stepDeadline, maxBuffer: 1 << 20 };
    const child = execFile(program, args, options, (error, stdout, stderr) => {
      if (!error) return resolve(stdout);
      const reason = stderr.trim() || errorText(error);
      reject(internal("lab-command", `the lab could not be set up: ${reason}`, { cause: error }));
    });
    child.stdin?.on("error", () => undefined);
    child.stdin?.end(input);
  });

export class Place {
  readonly pid: number;
  readonly #userNamespace: boolean;
  readonly #init: ChildProcess;
  readonly #ended: Promise<void>;

  private constructor(init: ChildProcess, pid: number, userNamespace: boolean, ended: Promise<void>) {
    this.#init = init;
    this.#ended = ended;
    this.pid = pid;
    this.#userNamespace = userNamespace;
  }

  /**
   * Starts a first process and waits until it said its pid and, where asked for, that it is ready.
   * @param command ends with a script of init-scripts.ts and its arguments
   * @throws NetworkError `lab-command`
   */
  static async start(command: readonly string[], options: { userNamespace: boolean; lines: number }): Promise<Place> {
    const [program = "", ...args] = command;
    const init = spawn(program, args, { env: insideEnvironment(), cwd: "/", stdio: ["pipe", "pipe", "pipe"] });
    init.stdin.on("error", () => undefined);
    let said = "";
    let complaint = "";
    const ended = new Promise<void>((resolve) => {
      init.once("exit", () => resolve());
      init.once("error", () => resolve());
    });
    const lines = await new Promise<readonly string[]>((resolve, reject) => {
      const fail = (reason: string) => {
        init.stdin.end();
        init.kill("SIGKILL");
        reject(internal("lab-command", `the lab could not be set up: ${reason}`));
      };
      const timer = setTimeout(() => fail(`no answer within ${stepDeadline / 1000} s`), stepDeadline);
      init.stdout.on("data", (chunk: Buffer) => {
        said += chunk.toString();
        if (said.split("\n").length <= options.lines) return;
        clearTimeout(timer);
        resolve(said.split("\n"));
      });
      init.stderr.on("data", (chunk: Buffer) => {
        complaint = (complaint + chunk.toString()).slice(-4096);
      });
      init.once("error", (error) => fail(error.message));
      // "close": after the last word on standard error.
      init.once("close", () => {
        clearTimeout(timer);
        fail(complaint.trim() || "its first process ended");
      });
    });
    return new Place(init, Number(lines[0]), options.userNamespace, ended);
  }

  enter(namespaces: readonly Namespace[] = all): readonly [string, ...string[]] {
    return enterCommand(this.pid, this.#userNamespace, namespaces);
  }

  /** Runs a shell script inside, with arguments. @throws NetworkError `lab-command` */
  script(text: string, args: readonly string[] = [], namespaces: readonly Namespace[] = all): Promise<string> {
    return runCommand([...this.enter(namespaces), "sh", "-ec", text, "sh", ...args]);
  }

  /** Resolves when the first process, and with it everything inside, has ended. */
  get ended(): Promise<void> {
    return this.#ended;
  }

  /** @throws NetworkError `lab-command` where something outside holds it up */
  async end(): Promise<void> {
    this.#init.stdin?.end();
    if (await endsWithin(this.#ended, stepDeadline)) return;
    throw internal("lab-command", "a place of the lab does not end; is a command of `dnet lab exec` stopped (Ctrl-Z)?");
  }
}
