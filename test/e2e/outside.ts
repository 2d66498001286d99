import { type ChildProcess, spawn } from "node:child_process";
import { run, shell } from "../own-host.ts";

/**
 * The world outside the test's host: a namespace behind a veth, 203.0.113.1 on the host's side and 203.0.113.2 on its own. It has
 * no route back to any sandbox: what reaches it and comes back went through NAT.
 */
export class Outside {
  static readonly address = "203.0.113.2";
  readonly #holder: ChildProcess;
  #server: ChildProcess | undefined;

  constructor() {
    this.#holder = spawn("unshare", ["--net", "sleep", "infinity"], { stdio: "ignore" });
  }

  get pid(): number {
    return this.#holder.pid ?? 0;
  }

  async connect(): Promise<void> {
    const own = run("readlink", "/proc/self/ns/net");
    while (run("readlink", `/proc/${this.pid}/ns/net`) === own) await new Promise((resolve) => setImmediate(resolve));
    shell(`
      ip link add wan0 type veth peer name eth0 netns ${this.pid}
      ip address add 203.0.113.1/24 dev wan0
      ip link set wan0 up
      nsenter -t ${this.pid} -n ip address add ${Outside.address}/24 dev eth0
      nsenter -t ${this.pid} -n ip link set eth0 up
      nsenter -t ${this.pid} -n ip link set lo up
      ip route add default via ${Outside.address}`);
  }

  exec(...command: readonly string[]): string {
    return run("nsenter", "-t", String(this.pid), "-n", ...command);
  }

  /** A DNS server outside that answers every A query with 198.51.100.7 and prints the names it was asked for. */
  async serveNames(): Promise<() => readonly string[]> {
    const program = `
      const socket = require("node:dgram").createSocket("udp4");
      socket.on("message", (query, from) => {
        let name = "", at = 12;
        while (query[at] !== 0) { name += query.subarray(at + 1, at + 1 + query[at]).toString() + "."; at += query[at] + 1; }
        process.stdout.write(name + "\\n");
        const reply = Buffer.concat([query.subarray(0, at + 5), Buffer.from("c00c000100010000003c0004c6336407", "hex")]);
        reply.writeUInt16BE(0x8180, 2); reply.writeUInt16BE(1, 6); reply.writeUInt16BE(0, 8); reply.writeUInt16BE(0, 10);
        socket.send(reply, from.port, from.address);
      });
      socket.bind(53, "0.0.0.0", () => process.stdout.write("ready\\n"));`;
    const server = spawn("nsenter", ["-t", String(this.pid), "-n", process.execPath, "-e", program], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#server = server;
    let printed = "";
    await new Promise<void>((resolve) => {
      server.stdout.on("data", (chunk: Buffer) => {
        printed += chunk.toString();
        if (printed.startsWith("ready\n")) resolve();
      });
    });
    return () => printed.split("\n").slice(1, -1);
  }

  async close(): Promise<void> {
    const ended = [this.#server, this.#holder].map(
      (child) => child && new Promise<void>((resolve) => child.once("exit", () => resolve())),
    );
    this.#server?.kill("SIGKILL");
    this.#holder.kill("SIGKILL");
    await Promise.all(ended);
    // The namespace is removed when its last process is reaped; its veth goes with it.
    run("sh", "-c", "while ip link show wan0 >/dev/null 2>&1; do ip link delete wan0 2>/dev/null || true; done");
  }
}
