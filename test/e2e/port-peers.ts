import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { NetworkError } from "../../src/errors.ts";
import { bind, close, errno, listen, SOCK, socket } from "../../src/linux/libc.ts";
import { AF } from "../../src/linux/netlink/constants.ts";
import { reuseAddress, socketAddress } from "../../src/linux/sockets.ts";
import { parseIp } from "../../src/net/ip.ts";
import { eventually } from "../own-host.ts";

/** Programs that serve and call ports, each in a network namespace of its choice. */

const tcpServer = `
  const [ports, name] = [JSON.parse(process.argv[1]), process.argv[2]];
  let waiting = ports.length;
  const ready = () => --waiting === 0 && process.stdout.write("ready\\n");
  for (const [protocol, port, address] of ports) {
    if (protocol === "tcp") {
      const server = require("node:net").createServer((socket) => {
        socket.on("error", () => {});
        socket.write(name + " " + port + " " + socket.remoteAddress.replace(/^::ffff:/, "") + "\\n");
        socket.pipe(socket);
      });
      server.listen(port, address ?? "::", ready);
    } else {
      const socket = require("node:dgram").createSocket("udp6");
      socket.on("message", (text, from) =>
        socket.send(name + " " + port + " " + from.address.replace(/^::ffff:/, "") + " " + text, from.port, from.address));
      socket.bind(port, ready);
    }
  }`;

const client = `
  const [protocol, address, port, source, text] = JSON.parse(process.argv[1]);
  const fail = (reason) => { process.stdout.write(reason); process.exit(1); };
  setTimeout(() => fail("timeout"), 6000);
  if (protocol === "tcp") {
    const socket = require("node:net").connect({ host: address, port, ...(source && { localAddress: source }) });
    socket.on("error", (error) => fail(error.code));
    socket.once("close", () => fail("closed"));
    socket.once("data", (data) => { process.stdout.write(data.toString().trim()); process.exit(0); });
  } else {
    const socket = require("node:dgram").createSocket(address.includes(":") ? "udp6" : "udp4");
    socket.on("error", (error) => fail(error.code));
    socket.bind(source ?? 0, () => socket.connect(port, address, () => {
      socket.on("message", (data) => { process.stdout.write(data.toString()); process.exit(0); });
      socket.send(text);
      setInterval(() => socket.send(text), 500);
    }));
  }`;

/** How to enter a namespace: its path, a process id, or nothing for the test's host. */
export type Place = string | number | undefined;

const enter = (place: Place): readonly string[] => {
  if (place === undefined) return [];
  return typeof place === "number" ? ["nsenter", "-t", String(place), "-n"] : ["nsenter", `--net=${place}`];
};

const node = (place: Place, program: string, ...args: readonly string[]): readonly string[] => [
  ...enter(place),
  process.execPath,
  "-e",
  program,
  ...args,
];

/** A server that answers with its name, its port and the client's address, and echoes what follows. */
export const serve = async (
  place: Place,
  name: string,
  ports: readonly (readonly ["tcp" | "udp", number, string?])[],
): Promise<ChildProcess> => {
  const [command = "", ...args] = node(place, tcpServer, JSON.stringify(ports), name);
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise<void>((resolve, reject) => {
    child.stdout.once("data", () => resolve());
    child.once("exit", (code) => reject(new Error(`server ${name} ended: ${code}`)));
  });
  return child;
};

/** What a port answers to one call; the reason where it does not: `ECONNREFUSED`, `ECONNRESET`, `closed`, `timeout`. */
export const call = (
  place: Place,
  protocol: "tcp" | "udp",
  address: string,
  port: number,
  more: { readonly source?: string | number; readonly text?: string } = {},
): string => {
  const [command = "", ...args] = node(
    place,
    client,
    JSON.stringify([protocol, address, port, more.source ?? null, more.text ?? "hello"]),
  );
  return spawnSync(command, args, { encoding: "utf8", timeout: 20_000 }).stdout;
};

export const stop = async (child: ChildProcess): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.kill("SIGKILL");
  await gone;
};

const longClient = `
  const [address, port] = JSON.parse(process.argv[1]);
  const socket = require("node:net").connect(port, address);
  socket.on("data", (data) => process.stdout.write(data));
  socket.on("error", (error) => process.stdout.write("error " + error.code + "\\n"));
  socket.on("close", () => process.exit(0));
  process.stdin.on("data", (data) => socket.write(data));`;

/** A connection that stays: what goes in comes back from a server's echo. */
export class Connection {
  readonly #child: ChildProcess;
  #heard = "";

  constructor(place: Place, address: string, port: number) {
    const [command = "", ...args] = node(place, longClient, JSON.stringify([address, port]));
    this.#child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
    this.#child.stdout?.on("data", (data: Buffer) => {
      this.#heard += data.toString();
    });
  }

  /** Waits for the server's first words. */
  async greeting(): Promise<string> {
    await eventually("the server greets", () => this.#heard.includes("\n"));
    return this.#heard.trim();
  }

  /** True where a word comes back. */
  async echoes(word: string): Promise<boolean> {
    this.#child.stdin?.write(`${word}\n`);
    await eventually(`the echo of ${word}`, () => this.#heard.includes(word) || this.#child.exitCode !== null);
    return this.#heard.includes(word);
  }

  get ended(): boolean {
    return this.#child.exitCode !== null;
  }

  async close(): Promise<void> {
    await stop(this.#child);
  }
}

/**
 * `bound` where a program could have a port of the test's host, else the error's name. It asks as most programs do, with
 * SO_REUSEADDR, and TCP listens.
 */
export const bindable = (protocol: "tcp" | "udp" | "sctp", address: string, port: number): string => {
  let fd: number | undefined;
  try {
    const six = address.includes(":");
    fd = socket(six ? AF.INET6 : AF.INET, protocol === "udp" ? SOCK.DGRAM : SOCK.STREAM, protocol === "sctp" ? 132 : 0);
    reuseAddress(fd, true);
    bind(fd, socketAddress(parseIp(address), port));
    if (protocol === "tcp") listen(fd, 1);
    return "bound";
  } catch (error) {
    const number = error instanceof NetworkError ? error.errno : undefined;
    return Object.entries(errno).find(([, value]) => value === number)?.[0] ?? String(error);
  } finally {
    if (fd !== undefined) close(fd);
  }
};
