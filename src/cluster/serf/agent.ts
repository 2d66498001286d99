import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { accessSync, chmodSync, constants, mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { errorText, NetworkError } from "../../errors.ts";
import type { Ip } from "../../net/ip.ts";
import { Backoff, pause } from "../backoff.ts";
import type { Log } from "../log.ts";
import { agentConfigText, agentEnvText, agentName } from "./agent-config.ts";
import { freeLoopbackPort, freeSerfPort, standardSerfPort } from "./ports.ts";
import { SerfRpcClient } from "./rpc-client.ts";
import { endStaleAgent, noteAgent } from "./stale-agent.ts";

export interface SerfAgentOptions {
  /** Eight hex digits: the daemon's, part of the agent's name. */
  readonly instance: string;
  readonly hostName: string;
  /** Told to the other members. */
  readonly address: Ip;
  /** The agent listens there; the address where none is given. */
  readonly bind?: Ip;
  /** Port of the gossip, TCP and UDP; the next free one is taken where it is not. Standard 7946. */
  readonly port?: number;
  readonly rpcPort?: number;
  readonly tags: Readonly<Record<string, string>>;
  /** Base64, checked. */
  readonly encrypt?: string;
  /** A directory of this daemon's own, for files that root alone may read. */
  readonly runDir: string;
  /** The agent's own log at level debug, with memberlist's lines. */
  readonly debug?: boolean;
  readonly log: Log;
}

/** A running agent and how to talk to it. */
export interface AgentAccess {
  readonly name: string;
  readonly pid: number;
  readonly port: number;
  readonly rpcPort: number;
  readonly authKey: string;
}

/** Where a program is found, given its name or path; undefined where it is not installed. */
export const findProgram = (name: string): string | undefined => {
  const standard = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"];
  const places = [...(process.env.PATH ?? "").split(delimiter), ...standard].filter((place) => place.startsWith("/"));
  return (name.startsWith("/") ? [name] : places.map((place) => join(place, name))).find((file) => {
    try {
      accessSync(file, constants.X_OK);
      return statSync(file).isFile();
    } catch {
      return false;
    }
  });
};

/** Milliseconds an agent has to open its RPC after its start. */
const startDeadline = 20_000;
/** An agent that ran so long was well: the next pause is short again. */
const healthy = 60_000;
const maxLine = 1_000;

/**
 * Runs a `serf agent` as a child and starts it again when it dies. It dies with the daemon: the kernel kills it when the thread that
 * started it ends (`setpriv --pdeathsig`), so start it from the main thread.
 */
export class SerfAgent {
  readonly #options: SerfAgentOptions;
  readonly #binary: string;
  readonly #abort = new AbortController();
  readonly #onUp: (access: AgentAccess) => void;
  readonly #onDown: () => void;
  readonly #running: Promise<void>;
  #access: AgentAccess | undefined;
  #child: ChildProcess | undefined;
  /** What the agent got last: kept while it can be had, because serf takes a new address for another node. */
  #lastPort: number | undefined;

  /**
   * @param binary path of the program
   * @param onUp is called when an agent answers, `onDown` when it has ended
   */
  constructor(binary: string, options: SerfAgentOptions, onUp: (access: AgentAccess) => void, onDown: () => void) {
    this.#binary = binary;
    this.#options = options;
    this.#onUp = onUp;
    this.#onDown = onDown;
    this.#running = this.#supervise();
  }

  /** The agent that answers now. */
  get access(): AgentAccess | undefined {
    return this.#access;
  }

  /** Leaves the cluster and ends the agent; kills it at the deadline (ms). Its files go. */
  async close(deadline = 3_000): Promise<void> {
    if (this.#abort.signal.aborted) return this.#running;
    const access = this.#access;
    this.#abort.abort();
    const child = this.#child;
    if (child) {
      const limit = setTimeout(() => child.kill("SIGKILL"), deadline);
      try {
        if (access) await leave(access, deadline);
        else child.kill("SIGTERM");
      } catch (error) {
        this.#options.log("debug", `serf did not leave in good order: ${errorText(error)}`);
        child.kill("SIGTERM");
      }
      await this.#running;
      clearTimeout(limit);
    } else await this.#running;
    rmSync(this.#options.runDir, { recursive: true, force: true });
  }

  async #supervise(): Promise<void> {
    const { log } = this.#options;
    const { signal } = this.#abort;
    const backoff = new Backoff(500, 30_000);
    while (!signal.aborted) {
      const began = performance.now();
      try {
        const end = await this.#run();
        if (signal.aborted) return;
        log("warning", `the serf agent has ended (${end}); starting it again`);
      } catch (error) {
        if (signal.aborted) return;
        const hint = error instanceof NetworkError && error.hint !== undefined ? ` (${error.hint})` : "";
        log("warning", `the serf agent cannot be started: ${errorText(error)}${hint}; trying again`);
      }
      if (performance.now() - began > healthy) backoff.reset();
      await pause(backoff.next(), signal);
    }
  }

  /** One life of an agent. @returns how it ended */
  async #run(): Promise<string> {
    const { runDir, log } = this.#options;
    const { signal } = this.#abort;
    mkdirSync(dirname(runDir), { recursive: true });
    mkdirSync(runDir, { recursive: true, mode: 0o700 });
    chmodSync(runDir, 0o700);
    const note = join(runDir, "agent.pid");
    const stale = await endStaleAgent(note, signal);
    if (stale !== undefined) log("info", `ended the serf agent of an earlier daemon (process ${stale})`);
    const prepared = await this.#prepare();
    if (signal.aborted) return "closing";
    const child = this.#spawn(join(runDir, "serf.json"));
    this.#child = child;
    const exit = exitOf(child);
    const tail = this.#followOutput(child);
    const ended = new AbortController();
    void exit.then(() => ended.abort());
    try {
      if (child.pid !== undefined) noteAgent(note, child.pid);
      const outcome = await Promise.race([exit, this.#answers(prepared, AbortSignal.any([signal, ended.signal]))]);
      if (typeof outcome === "string") return `${outcome}${tail() === "" ? "" : `: ${tail()}`}`;
      if (!signal.aborted) {
        this.#access = { ...prepared, pid: child.pid ?? 0 };
        this.#lastPort = prepared.port;
        log("info", `serf agent ${prepared.name} listens on ${this.#options.address}, port ${prepared.port}`);
        this.#onUp(this.#access);
      }
      return await exit;
    } catch (error) {
      child.kill("SIGKILL");
      await exit;
      throw error;
    } finally {
      this.#child = undefined;
      rmSync(note, { force: true });
      if (this.#access) {
        this.#access = undefined;
        this.#onDown();
      }
    }
  }

  async #prepare(): Promise<Omit<AgentAccess, "pid">> {
    const { instance, hostName, address, bind = address, runDir, tags, encrypt, debug = false, log } = this.#options;
    const wanted = this.#options.port ?? standardSerfPort;
    const port = await this.#choosePort(bind, wanted);
    if (port !== wanted && port !== this.#lastPort) {
      log("info", `port ${wanted} is taken on ${bind}: serf listens on port ${port}`);
    }
    const rpcPort = await freeLoopbackPort(this.#options.rpcPort);
    const authKey = randomBytes(32).toString("hex");
    const name = agentName(hostName, instance, port, wanted);
    const config = agentConfigText({
      name,
      bind,
      ...(bind !== address && { advertise: address }),
      port,
      rpcPort,
      rpcAuth: authKey,
      tags,
      ...(encrypt !== undefined && { encrypt }),
      debug,
    });
    writeSecret(join(runDir, "serf.json"), config);
    writeSecret(join(runDir, "env"), agentEnvText(rpcPort, authKey));
    return { name, port, rpcPort, authKey };
  }

  async #choosePort(bind: Ip, wanted: number): Promise<number> {
    const last = this.#lastPort;
    if (last !== undefined && last !== wanted && (await freeSerfPort(bind, last)) === last) return last;
    return freeSerfPort(bind, wanted);
  }

  #spawn(configFile: string): ChildProcess {
    const { log } = this.#options;
    const setpriv = findProgram("setpriv");
    const agent = [this.#binary, "agent", "-config-file", configFile];
    const [program = "", ...args] = setpriv === undefined ? agent : [setpriv, "--pdeathsig", "KILL", "--", ...agent];
    if (setpriv === undefined) {
      log(
        "warning",
        "setpriv (util-linux) is not installed: a killed daemon leaves its serf agent until the next start",
      );
    }
    return spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], env: { PATH: "/usr/bin:/bin" }, cwd: "/" });
  }

  /** Writes the agent's lines to our log. @returns the last one that says something */
  #followOutput(child: ChildProcess): () => string {
    let last = "";
    for (const output of [child.stdout, child.stderr]) {
      let rest = "";
      output?.setEncoding("utf8");
      output?.on("error", () => undefined);
      output?.on("data", (text: string) => {
        const lines = (rest + text).split("\n");
        rest = (lines.pop() ?? "").slice(0, maxLine);
        for (const line of lines.map((each) => each.trim().slice(0, maxLine)).filter((each) => each !== "")) {
          last = line;
          // The agent's own log has a date and a level; the rest is its greeting.
          if (/^\d{4}\/\d\d\/\d\d /.test(line)) this.#options.log("debug", line);
        }
      });
    }
    return () => last;
  }

  /** Waits until the agent's RPC answers. @throws NetworkError at the deadline */
  async #answers(access: Omit<AgentAccess, "pid">, signal: AbortSignal): Promise<undefined> {
    const end = performance.now() + startDeadline;
    for (;;) {
      try {
        const client = await SerfRpcClient.connect({
          host: "127.0.0.1",
          port: access.rpcPort,
          authKey: access.authKey,
        });
        client.close();
        return undefined;
      } catch (error) {
        if (signal.aborted) return undefined;
        if (performance.now() > end) throw error;
        await pause(50, signal);
      }
    }
  }
}

const leave = async (access: AgentAccess, deadline: number): Promise<void> => {
  const client = await SerfRpcClient.connect({ host: "127.0.0.1", port: access.rpcPort, authKey: access.authKey });
  try {
    await client.leave(deadline);
  } finally {
    client.close();
  }
};

/** Replaces a file that only root may read; its content is never readable by others, not even for a moment. */
const writeSecret = (file: string, text: string): void => {
  rmSync(file, { force: true });
  writeFileSync(file, text, { mode: 0o600, flag: "wx" });
};

const exitOf = (child: ChildProcess): Promise<string> =>
  new Promise((resolve) => {
    child.once("error", (error) => resolve(errorText(error)));
    child.once("exit", (code, signal) => resolve(signal === null ? `exit status ${code}` : `signal ${signal}`));
  });
