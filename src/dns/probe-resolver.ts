import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { headerLength } from "./packet.ts";

/** Milliseconds for an answer, and how often it is asked for: a datagram may be lost where there is much to do. */
const wait = 1_000;
const attempts = 3;

/**
 * Asks a resolver for the one thing that it always answers at once, by itself: that it does not do STATUS (RFC 1035 4.1.1,
 * opcode 2). Nothing is looked up or forwarded.
 * @param fd a bound UDP socket in the resolver's namespace; it is closed
 */
export const answersIn = async (fd: number, address: string): Promise<boolean> => {
  const query = Buffer.alloc(headerLength);
  randomBytes(2).copy(query);
  query.writeUInt16BE(2 << 11, 2);
  const socket = createSocket("udp4");
  const { promise, resolve } = Promise.withResolvers<boolean>();
  socket.on("error", () => resolve(false));
  socket.on(
    "message",
    (answer) => answer.length >= headerLength && answer.subarray(0, 2).equals(query.subarray(0, 2)) && resolve(true),
  );
  let left = attempts;
  const ask = (): void => {
    if (left-- === 0) {
      resolve(false);
      return;
    }
    socket.send(query, 53, address, () => undefined);
    timer = setTimeout(ask, wait);
  };
  let timer: NodeJS.Timeout | undefined;
  socket.bind({ fd }, ask);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    socket.close();
  }
};
