import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually, run } from "../own-host.ts";
import { freeze } from "./freeze.ts";

/** Starting etcd takes part of a second; other tests may have the machine. */
const startDeadline = 30_000;

export interface EtcdServerOptions {
  readonly name?: string;
  readonly clientPort?: number;
  readonly peerPort?: number;
  /** Names and peer ports of all members, its own included. */
  readonly members?: readonly { readonly name: string; readonly peerPort: number }[];
  readonly tls?: { readonly ca: string; readonly cert: string; readonly key: string };
  readonly flags?: readonly string[];
}

/** A real etcd on loopback, its data in a directory of its own. */
export class EtcdServer {
  readonly address: string;
  readonly #options: EtcdServerOptions;
  readonly #directory = mkdtempSync(join(tmpdir(), "dnet-etcd-"));
  readonly #scheme: string;
  #process: ChildProcess | undefined;

  constructor(options: EtcdServerOptions = {}) {
    this.#options = options;
    this.address = `127.0.0.1:${options.clientPort ?? 2379}`;
    this.#scheme = options.tls ? "https" : "http";
  }

  get log(): string {
    return readFileSync(join(this.#directory, "log"), "utf8");
  }

  /** Starts without waiting, for members that need each other. */
  spawn(): void {
    const { name = "one", peerPort = 2380, members = [{ name, peerPort }], tls, flags = [] } = this.#options;
    const peer = `http://127.0.0.1:${peerPort}`;
    const client = `${this.#scheme}://${this.address}`;
    const log = openSync(join(this.#directory, "log"), "a");
    this.#process = spawn(
      "etcd",
      [
        ...["--name", name, "--data-dir", join(this.#directory, "data")],
        ...["--listen-client-urls", client, "--advertise-client-urls", client],
        ...["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer],
        ...["--initial-cluster", members.map((one) => `${one.name}=http://127.0.0.1:${one.peerPort}`).join(",")],
        ...(tls ? ["--trusted-ca-file", tls.ca, "--cert-file", tls.cert, "--key-file", tls.key] : []),
        ...flags,
      ],
      { stdio: ["ignore", log, log], env: { PATH: process.env.PATH } },
    );
    closeSync(log);
  }

  async start(): Promise<this> {
    this.spawn();
    await this.ready();
    return this;
  }

  /** Until it serves, with a leader. TLS: until it listens. */
  async ready(): Promise<void> {
    await eventually(
      `etcd at ${this.address} serves\n${this.log.slice(-2000)}`,
      () => {
        if (this.#process?.exitCode !== null) throw new Error(`etcd ended:\n${this.log.slice(-2000)}`);
        return this.#options.tls ? /serving client requests on/.test(this.log) : healthy(this.address);
      },
      startDeadline,
    );
  }

  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGKILL"): Promise<void> {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGCONT");
    child.kill(signal);
    await ended;
  }

  pause(): Promise<void> {
    return freeze(this.#process);
  }

  resume(): void {
    this.#process?.kill("SIGCONT");
  }

  /** Forgets everything, while it is stopped. */
  wipe(): void {
    rmSync(join(this.#directory, "data"), { recursive: true, force: true });
  }

  /** Takes the place of its data by a backup, while it is stopped. */
  restore(backup: string): void {
    const { name = "one", peerPort = 2380 } = this.#options;
    const peer = `http://127.0.0.1:${peerPort}`;
    this.wipe();
    run(
      "etcdctl",
      ...["snapshot", "restore", backup, "--data-dir", join(this.#directory, "data"), "--name", name],
      ...["--initial-cluster", `${name}=${peer}`, "--initial-advertise-peer-urls", peer],
    );
  }

  /** A path in its directory. */
  path(name: string): string {
    return join(this.#directory, name);
  }

  async remove(): Promise<void> {
    await this.stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

const healthy = (address: string): Promise<boolean> =>
  new Promise((resolve) => {
    const outgoing = request(`http://${address}/health`, { agent: false, timeout: 2_000 }, (response) => {
      let body = "";
      response.on("data", (chunk: Buffer) => (body += chunk.toString()));
      response.on("error", () => resolve(false));
      response.on("close", () => resolve(body.includes('"health":"true"')));
    });
    outgoing.on("timeout", () => outgoing.destroy());
    outgoing.on("error", () => resolve(false));
    outgoing.end();
  });
