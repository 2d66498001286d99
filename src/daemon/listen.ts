import { chmodSync, mkdirSync, rmSync, statSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import { connect, isIP } from "node:net";
import { dirname } from "node:path";
import { badRequest, internal, shown } from "../errors.ts";

/** Where the API listens: `unix:///path` or `tcp://address:port`. */
export type ListenAddress =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number };

export const defaultSocket = "unix:///var/run/dnet.sock";
/** The port of the original's daemon. */
const defaultPort = 2385;

/** @throws NetworkError `invalid-host` that says what was wrong */
export const parseListenAddress = (text: string): ListenAddress => {
  const fail = (reason: string) => badRequest("invalid-host", `invalid host ${shown(text)}: ${reason}`);
  if (text.startsWith("unix://")) {
    const path = text.slice("unix://".length);
    if (!path.startsWith("/")) throw fail("the path of the socket must be absolute: unix:///var/run/dnet.sock");
    // sun_path of unix(7) has 108 bytes.
    if (Buffer.byteLength(path) > 107) throw fail("the path of a socket has at most 107 bytes");
    return { kind: "unix", path };
  }
  const scheme = /^([a-z]+):\/\//.exec(text)?.[1];
  if (scheme !== undefined && scheme !== "tcp") throw fail("dnet currently only supports tcp and unix transport");
  const match = /^(?:tcp:\/\/)?(\[[0-9a-fA-F:.]+\]|[^:/[\]]*)(?::(\d+))?$/.exec(text);
  if (!match) throw fail("it has the form tcp://address:port");
  const host = (match[1] ?? "").replace(/^\[|\]$/g, "") || "127.0.0.1";
  if (isIP(host) === 0 && host !== "localhost") throw fail(`${host} is not an IP address`);
  const port = Number(match[2] ?? defaultPort);
  if (port > 65535) throw fail(`${port} is not a port`);
  return { kind: "tcp", host, port };
};

export const isLoopback = (host: string): boolean => host === "localhost" || host === "::1" || /^127\./.test(host);

/** How an address is written where a client can use it. */
export const addressText = (address: ListenAddress, port?: number): string =>
  address.kind === "unix"
    ? `unix://${address.path}`
    : `tcp://${address.host.includes(":") ? `[${address.host}]` : address.host}:${port ?? address.port}`;

/** Limits of every listener: sizes in bytes, times in milliseconds. */
const limits = { maxHeaderSize: 16 * 1024, headersTimeout: 10_000, requestTimeout: 60_000, keepAliveTimeout: 5_000 };
const maxConnections = 512;

/** Starts one listener. @throws NetworkError `listen` that says what to do */
export const listen = async (address: ListenAddress, handler: RequestListener): Promise<Server> => {
  const server = createServer(limits, handler);
  server.maxConnections = maxConnections;
  if (address.kind === "unix") await makeWay(address.path);
  const before = process.umask(0o117);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      const options = address.kind === "unix" ? { path: address.path } : { host: address.host, port: address.port };
      server.listen(options, () => {
        server.off("error", reject);
        resolve();
      });
    });
  } catch (cause) {
    const { code } = cause as { code?: string };
    const where = addressText(address);
    throw internal("listen", `listen ${where}: ${code === "EADDRINUSE" ? "bind: address already in use" : code}`, {
      cause,
      ...(code === "EADDRINUSE" && { hint: "another program (another dnet?) listens there; choose another with -H" }),
      ...(code === "EACCES" && { hint: "this needs root, or another place with -H" }),
    });
  } finally {
    process.umask(before);
  }
  if (address.kind === "unix") chmodSync(address.path, 0o660);
  return server;
};

/** Removes a socket file that a dead daemon left; refuses where a live one answers or where the file is no socket. */
const makeWay = async (path: string): Promise<void> => {
  mkdirSync(dirname(path), { recursive: true });
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found) return;
  if (!found.isSocket()) throw internal("listen", `listen unix://${path}: there is a file that is no socket`);
  const alive = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    probe.once("error", () => resolve(false));
  });
  if (alive) {
    throw internal("listen", `listen unix://${path}: another daemon answers there`, {
      hint: "stop it, or choose another socket with -H",
    });
  }
  rmSync(path, { force: true });
};
