import { type ChildProcess, spawn, spawnSync } from "node:child_process";

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
  setTimeout(() => fail("timeout"), 3000);
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
