import { closeSync, readSync } from "node:fs";

/**
 * Node's event loop watches no netlink sockets, and a thread that waits for one costs memory. So the kernel sends SIGIO when
 * there is something to read (fcntl(2), O_ASYNC), which libuv turns into an event like any other: nothing polls.
 */

/** Datagrams that are read in one go: others have their turn while notifications come without end. */
const turn = 64;

const readers = new Set<() => void>();
const readAll = (): void => {
  for (const read of readers) read();
};

/** Must be called before a descriptor is made that signals. The handler stays for good: without one, a late SIGIO ends the process. */
export const listenForReadable = (): void => {
  if (!process.listeners("SIGIO").includes(readAll)) process.on("SIGIO", readAll);
};

/** Reading is synchronous: one for all. */
const buffer = Buffer.alloc(64 * 1024);

/**
 * Reads datagrams of a descriptor that signals (`signalWhenReadable`) as they come.
 * @param onDatagram undefined where some got lost; the bytes are valid during the call
 * @param perSecond datagrams that are read in a second, where whoever causes them is not trusted; the kernel drops what is too much
 * @returns what ends it and closes the descriptor
 */
export const readDatagrams = (
  fd: number,
  onDatagram: (bytes: Buffer | undefined) => void,
  perSecond = Number.POSITIVE_INFINITY,
): (() => void) => {
  let stopped = false;
  let [since, left] = [Date.now(), perSecond];
  let pause: NodeJS.Timeout | undefined;
  const goOn = (): void => {
    pause = undefined;
    read();
  };
  const read = (): void => {
    if (pause) return;
    if (Date.now() - since >= 1000) [since, left] = [Date.now(), perSecond];
    for (let datagrams = 0; !stopped && datagrams < turn; datagrams++) {
      if (left <= 0) {
        pause = setTimeout(goOn, 1000).unref();
        return;
      }
      let length: number;
      try {
        length = readSync(fd, buffer, 0, buffer.length, null);
      } catch (error) {
        const { code } = error as { code?: string };
        if (code === "EAGAIN") return;
        onDatagram(undefined);
        // More came than the socket holds: reading goes on. Anything else will not get better.
        if (code !== "ENOBUFS") return;
        continue;
      }
      left--;
      onDatagram(buffer.subarray(0, length));
    }
    if (!stopped) setImmediate(read);
  };
  readers.add(read);
  read();
  return () => {
    stopped = true;
    clearTimeout(pause);
    readers.delete(read);
    closeSync(fd);
  };
};
