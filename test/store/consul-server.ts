import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { eventually } from "../own-host.ts";
import { freeze } from "./freeze.ts";

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
  /** Where it listens, on loopback; one of a cluster has an address of its own. */
  readonly ip?: string;
  /** Addresses of the cluster's servers. */
  readonly cluster?: readonly string[];
}

/** A real Consul server on loopback, to be stopped, killed, frozen, replaced. Its data outlives its process. */
export class ConsulServer {
  readonly address: string;
  readonly directory = mkdtempSync(join(tmpdir(), "dnet-consul-"));
  readonly #options: ConsulServerOptions;
  readonly #ip: string;
  #child: ChildProcess | undefined;

  constructor(options: ConsulServerOptions = {}) {
    this.#options = options;
    this.#ip = options.ip ?? "127.0.0.1";
    this.address = `${this.#ip}:8500`;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  get log(): string {
    return readFileSync(join(this.directory, "log"), "utf8");
  }

  /** Starts it, and waits until it works. @param more configuration that could not be known before, HCL */
  async start(more = ""): Promise<void> {
    const config = join(this.directory, "config.hcl");
    writeFileSync(
      config,
      `performance { raft_multiplier = 1 }
       disable_update_check = true
       connect { enabled = false }
       ports { dns = -1 grpc = -1 }
       ${this.#options.config ?? ""}`,
    );
    const log = openSync(join(this.directory, "log"), "a");
    const { cluster = [this.#ip] } = this.#options;
    const args = [
      "agent",
      "-server",
      `-bootstrap-expect=${cluster.length}`,
      `-node=${this.#ip.replaceAll(".", "-")}`,
      `-bind=${this.#ip}`,
      `-client=${this.#ip}`,
      ...cluster.filter((ip) => ip !== this.#ip).map((ip) => `-retry-join=${ip}`),
      "-retry-interval=1s",
    ];
    this.#child = spawn(
      consulBinary(),
      [...args, `-data-dir=${join(this.directory, "data")}`, `-config-file=${config}`, `-hcl=${more}`],
      { stdio: ["ignore", log, log] },
    );
    closeSync(log);
    await eventually("consul writes", this.#options.probe ?? (() => this.#writes()), 60_000);
  }

  async #writes(): Promise<boolean> {
    const response = await consulRequest("PUT", this.address, "/v1/kv/probe", "1").catch(() => undefined);
    if (response?.status !== 200) return false;
    // Sessions need a node in the catalog, where it is a moment later.
    const nodes = await consulRequest("GET", this.address, "/v1/catalog/nodes").catch(() => undefined);
    return nodes?.body.startsWith("[{") ?? false;
  }

  freeze(): Promise<void> {
    return freeze(this.#child);
  }

  thaw(): void {
    this.#child?.kill("SIGCONT");
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
