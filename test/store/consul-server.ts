import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { eventually } from "../own-host.ts";

const cached = new URL("../../.cache/consul/consul", import.meta.url).pathname;

/** The real one: `$DNET_CONSUL`, the one that scripts/consul.sh fetched, or the one on the path. */
export const consulBinary = (): string => {
  const onPath = (process.env.PATH ?? "").split(delimiter).map((directory) => join(directory, "consul"));
  for (const path of [process.env.DNET_CONSUL ?? "", cached, ...onPath]) {
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // The next one.
    }
  }
  throw new Error("this test needs the consul binary: run scripts/consul.sh, or set DNET_CONSUL");
};

export interface ConsulServerOptions {
  /** More configuration, HCL. */
  readonly config?: string;
  /** How a request must be made that shows whether it works. */
  readonly probe?: () => Promise<boolean>;
  readonly port?: number;
}

/** A real Consul server on loopback, to be stopped, killed, frozen, replaced. Its data outlives its process. */
export class ConsulServer {
  readonly address: string;
  readonly directory = mkdtempSync(join(tmpdir(), "dnet-consul-"));
  readonly #options: ConsulServerOptions;
  #child: ChildProcess | undefined;

  constructor(options: ConsulServerOptions = {}) {
    this.#options = options;
    this.address = `127.0.0.1:${options.port ?? 8500}`;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  get log(): string {
    return readFileSync(join(this.directory, "log"), "utf8");
  }

  /** Starts it, and waits until it writes. */
  async start(): Promise<void> {
    const config = join(this.directory, "config.hcl");
    writeFileSync(
      config,
      `performance { raft_multiplier = 1 }
       disable_update_check = true
       connect { enabled = false }
       ports { http = ${this.#options.port ?? 8500} dns = -1 grpc = -1 }
       ${this.#options.config ?? ""}`,
    );
    const log = join(this.directory, "log");
    const args = ["agent", "-server", "-bootstrap-expect=1", "-node=n1", "-bind=127.0.0.1", "-client=127.0.0.1"];
    this.#child = spawn(
      consulBinary(),
      [...args, `-data-dir=${join(this.directory, "data")}`, `-config-file=${config}`, `-log-file=${log}`],
      { stdio: "ignore" },
    );
    await eventually("consul writes", this.#options.probe ?? (() => this.#writes()), 60_000);
  }

  async #writes(): Promise<boolean> {
    const response = await consulRequest("PUT", this.address, "/v1/kv/probe", "1").catch(() => undefined);
    return response?.status === 200;
  }

  signal(name: NodeJS.Signals): void {
    this.#child?.kill(name);
  }

  /** Ends the process; its data stays. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill(signal);
    child.kill("SIGCONT");
    await ended;
  }

  /** Takes its data away: the next start is that of another, empty server. */
  forget(): void {
    rmSync(join(this.directory, "data"), { recursive: true, force: true });
  }

  async remove(): Promise<void> {
    await this.stop("SIGKILL");
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** A request of a test's own, past the store. */
export const consulRequest = (
  method: string,
  address: string,
  path: string,
  body = "",
  headers: Readonly<Record<string, string>> = {},
): Promise<{ readonly status: number; readonly body: string }> =>
  new Promise((resolve, reject) => {
    const outgoing = request(
      `http://${address}${path}`,
      { method, headers, agent: false, timeout: 5_000 },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.once("end", () =>
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }),
        );
        response.once("error", reject);
      },
    );
    outgoing.once("error", reject);
    outgoing.end(body);
  });
