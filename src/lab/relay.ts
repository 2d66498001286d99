import { connect, createServer, type Server, type Socket } from "node:net";
import { badRequest, internal } from "../errors.ts";

/** Connections at once. */
const maxConnections = 512;

/** Leads a port of the caller's loopback to the unix socket of a daemon: unix sockets cross network namespaces. */
export class Relay {
  readonly #server: Server;
  readonly #open = new Set<Socket>();

  private constructor(socketPath: string) {
    this.#server = createServer({ allowHalfOpen: true }, (caller) => {
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
      relay.#server.once("error", (cause: Error & { code?: string }) => {
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
