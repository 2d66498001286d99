import { type ChildProcess, type ExecFileException, execFile, type SpawnOptions, spawn } from "node:child_process";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { internal, notFound, shown } from "../errors.ts";
import type { LabRequest } from "./control.ts";
import type { LabState, PlaceState } from "./lab-state.ts";
import { enterCommand } from "./place.ts";
import { findConsul, projectRoot, searchPath } from "./programs.ts";

export interface Ran {
  /** 128 and the signal's number where a signal ended it, as a shell has it. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What execFile(3) of Node says about an end, as a shell says it. */
export const statusOf = (error: ExecFileException | null): number => {
  if (!error) return 0;
  if (typeof error.code === "number") return error.code;
  return 128 + (error.signal ? constants.signals[error.signal] : 0);
};

/** What a place needs of its lab. */
export interface LabHandle {
  readonly directory: string;
  state(): Promise<LabState>;
  ask<T>(request: LabRequest): Promise<T>;
}

/** Milliseconds that `exec` waits for a command. */
const execDeadline = 120_000;
/** Bytes of its output. */
const maxOutput = 64 << 20;

/** A machine of a lab, seen from outside: commands run inside it. */
export class LabPlace {
  protected readonly lab: LabHandle;
  readonly name: string;

  constructor(lab: LabHandle, name: string) {
    this.lab = lab;
    this.name = name;
  }

  /** Logs and configuration; inside, it is /run/lab. */
  get directory(): string {
    return join(this.lab.directory, this.name);
  }

  /** Runs a command inside to its end (at most 2 minutes). */
  async exec(...command: readonly string[]): Promise<Ran> {
    const { program, args, env } = await this.#command(command);
    return new Promise((resolve) => {
      const options = { env, timeout: execDeadline, maxBuffer: maxOutput } as const;
      execFile(program, args, { ...options, encoding: "utf8" }, (error, stdout, stderr) =>
        resolve({ status: statusOf(error), stdout, stderr }),
      );
    });
  }

  /** The same, which must succeed. @returns what it printed; @throws NetworkError `lab-exec` */
  async run(...command: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await this.exec(...command);
    if (status === 0) return stdout;
    throw internal("lab-exec", `${this.name}: ${command.join(" ")}: status ${status}\n${stdout}${stderr}`);
  }

  /** Starts a command inside; its process is that of nsenter, which waits for it. */
  async spawn(command: readonly string[], options: SpawnOptions = {}): Promise<ChildProcess> {
    const { program, args, env } = await this.#command(command);
    return spawn(program, args, { env, ...options });
  }

  /** @throws NetworkError `no-lab-host` */
  #find({ hosts, store, outside, lan }: LabState): PlaceState {
    const places: readonly PlaceState[] = [...hosts, ...(store ? [store] : []), outside, lan];
    const found = places.find(({ name }) => name === this.name);
    if (found) return found;
    throw notFound("no-lab-host", `the lab has no ${shown(this.name)}`, {
      hint: `it has ${places.map(({ name }) => name).join(", ")}`,
    });
  }

  /** Working directory and terminal are the caller's. */
  async #command(command: readonly string[]): Promise<Entry> {
    const state = await this.lab.state();
    const inDirectory = 'cd "$0" 2>/dev/null || cd /; exec "$@"';
    const [program, ...enter] = enterCommand(this.#find(state).pid, state.userNamespace);
    return {
      program,
      args: [...enter, "sh", "-c", inDirectory, process.cwd(), ...command],
      env: { ...storeEnvironment(state), ...callersEnvironment() },
    };
  }
}

interface Entry {
  readonly program: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
}

/** With `dnet` and `consul` to be found. */
const callersEnvironment = (): NodeJS.ProcessEnv => {
  const extra = [join(projectRoot(), "bin")];
  try {
    extra.push(dirname(findConsul()));
  } catch {
    // A lab with etcd goes without.
  }
  const { DNET_HOST: _, ...env } = process.env;
  return { ...env, PATH: [...extra, searchPath()].join(":") };
};

/** So that `consul kv export` and `etcdctl get` mean the lab's store. */
const storeEnvironment = ({ store }: LabState): Record<string, string> => {
  if (!store) return {};
  return store.kind === "consul" ? { CONSUL_HTTP_ADDR: store.endpoint } : { ETCDCTL_ENDPOINTS: store.endpoint };
};
