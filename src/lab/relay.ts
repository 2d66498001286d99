import { existsSync, readFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { badRequest, internal } from "../errors.ts";

/** Connections at once. */
const maxConnections = 512;

/**
 * Uids of the program at the other end of a connection over this machine's loopback, from the kernel's tables (proc(5),
 * /proc/net/tcp): one, or none where it has gone. All that match, where source addresses other than 127.0.0.1 make more.
 */
const callersOf = (callerPort: number, ownPort: number): readonly number[] => {
  const hex = (port: number): string => `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return ["/proc/net/tcp", "/proc/net/tcp6"].flatMap((path) => {
    const table = existsSync(path) ? readFileSync(path, "latin1").split("\n").slice(1) : [];
    return table.flatMap((line) => {
      const [, local = "", remote = "", , , , , uid] = line.trim().split(/\s+/);
      return local.endsWith(hex(callerPort)) && remote.endsWith(hex(ownPort)) ? [Number(uid)] : [];
    });
  });
};

const refusal = "this lab belongs to another user: use it as that user, or as root\n";
const answer = `HTTP/1.0 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: ${refusal.length}\r\n\r\n${refusal}`;

/** The lab's owner and root; whoever commands a daemon commands its host, and a port of the loopback is open to all users. */
const mayUse = ({ remotePort = 0, localPort = 0 }: Socket): boolean => {
  const callers = callersOf(remotePort, localPort);
  return callers.length > 0 && callers.every((uid) => uid === 0 || uid === process.getuid?.());
};

/** Leads a port of the caller's loopback to the unix socket of a daemon: unix sockets cross network namespaces. */
export class Relay {
  readonly #server: Server;
  readonly #open = new Set<Socket>();

  private constructor(socketPath: string) {
    this.#server = createServer({ allowHalfOpen: true }, (caller) => {
      if (!mayUse(caller)) {
        caller.on("error", () => undefined).resume();
        caller.end(answer);
        return;
      }
      const daemon = connect({ path: socketPath, allowHalfOpen: true });
      for (const [from, to] of [
        [caller, daemon],
        [daemon, caller],
      ] as const) {
        this.#open.add(from);
        from.on("error", () => caller.resetAndDestroy());
        from.once("close", () => {
          this.#open.delete(from);
          if (!to.writableEnded) to.destroy();
        });
        from.pipe(to);
      }
    });
    this.#server.maxConnections = maxConnections;
  }

  /** @throws NetworkError `lab-port` where somebody else has the port */
  static async listen(port: number, socketPath: string): Promise<Relay> {
    const relay = new Relay(socketPath);
    await new Promise<void>((resolve, reject) => {
      // Stays: a connection that cannot be accepted (EMFILE) is no reason to end the lab.
      relay.#server.on("error", (cause: Error & { code?: string }) => {
        const text = `the lab cannot listen on 127.0.0.1:${port}: ${cause.code}`;
        const hint = "another lab, or another program, has it: choose another first port with --port";
        reject(
          cause.code === "EADDRINUSE" ? badRequest("lab-port", text, { cause, hint }) : internal("lab-port", text),
        );
      });
      relay.#server.listen(port, "127.0.0.1", resolve);
    });
    return relay;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#open) socket.destroy();
  }
}
