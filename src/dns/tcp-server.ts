import { createServer, type Server, type Socket } from "node:net";
import { FrameReader, frame } from "./frames.ts";

export interface TcpServerOptions {
  /** The reply to a message: at once, later, or none. May not throw nor reject. */
  readonly handle: (message: Buffer) => Buffer | undefined | Promise<Buffer | undefined>;
  readonly isSource: (address: string) => boolean;
  /** More connections are closed as they come; 64 by default. */
  readonly maxConnections?: number;
  /** Milliseconds within which a connection must complete a message, and read its replies; 10 000 by default. */
  readonly idle?: number;
  /** Queries of one connection under way at once; 16 by default. */
  readonly maxInFlight?: number;
}

/** A server of framed messages. Each connection has its own bounds, so that none can hold another. */
export const createTcpServer = (options: TcpServerOptions): { server: Server; destroyAll: () => void } => {
  const connections = new Set<Socket>();
  // Half-open: a client that has said all it has to say still gets its replies.
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    socket.on("error", () => socket.destroy());
    const source = socket.remoteAddress?.replace(/^::ffff:/, "");
    if (source === undefined || !options.isSource(source)) {
      socket.destroy();
      return;
    }
    connections.add(socket);
    socket.on("close", () => connections.delete(socket));
    serve(socket, options);
  });
  server.maxConnections = options.maxConnections ?? 64;
  const destroyAll = () => {
    for (const socket of connections) socket.destroy();
  };
  return { server, destroyAll };
};

const serve = (socket: Socket, { handle, idle = 10_000, maxInFlight = 16 }: TcpServerOptions): void => {
  const frames = new FrameReader();
  let inFlight = 0;
  let ended = false;
  // Counts from the last whole message or reply, not from the last byte: a byte now and then keeps no connection.
  const timer = setTimeout(() => {
    if (inFlight > 0) timer.refresh();
    else socket.destroy();
  }, idle);
  socket.on("close", () => clearTimeout(timer));

  const send = (reply: Buffer | undefined) => {
    if (socket.destroyed) return;
    // What gets no reply over UDP is no DNS, and nothing after it can be trusted to be.
    if (!reply) socket.destroy();
    else if (socket.write(frame(reply))) timer.refresh();
  };
  const later = async (reply: Promise<Buffer | undefined>) => {
    inFlight++;
    try {
      send(await reply);
    } finally {
      inFlight--;
      advance();
    }
  };
  const advance = () => {
    while (!socket.destroyed && inFlight < maxInFlight && !socket.writableNeedDrain) {
      const message = frames.next();
      if (!message) {
        if (!ended) socket.resume();
        else if (inFlight === 0) socket.end();
        return;
      }
      const reply = handle(message);
      if (reply instanceof Promise) void later(reply);
      else send(reply);
    }
    socket.pause();
  };
  socket.on("data", (chunk: Buffer) => {
    frames.feed(chunk);
    advance();
  });
  socket.on("drain", () => {
    timer.refresh();
    advance();
  });
  socket.on("end", () => {
    ended = true;
    advance();
  });
};
