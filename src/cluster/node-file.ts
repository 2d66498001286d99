import { open, stat } from "node:fs/promises";
import { errorText } from "../errors.ts";
import { type Clock, systemClock } from "../store/lease-book.ts";
import { pause } from "./backoff.ts";
import { parseNodeList } from "./discovery.ts";
import type { JoinAddress } from "./join-address.ts";
import type { Log } from "./log.ts";

/** Bytes that are read of a list of nodes. */
const maxBytes = 1024 * 1024;
/** Milliseconds between two looks at the file: a change is seen whether it was written in place, renamed over or mounted. */
const interval = 1_000;

/** Reads a list of nodes, and again whenever the file changes, until the signal aborts. A file that is away is an empty list. */
export const followNodeFile = async (
  path: string,
  onAddresses: (addresses: readonly JoinAddress[]) => void,
  options: { readonly log: Log; readonly signal: AbortSignal; readonly clock?: Clock },
): Promise<void> => {
  const { log, signal, clock = systemClock } = options;
  let known: string | undefined;
  let complaint = "";
  while (!signal.aborted) {
    try {
      const { dev, ino, size, mtimeNs } = await regularFile(path);
      complaint = "";
      const state = [dev, ino, size, mtimeNs].join();
      if (state !== known) {
        const text = await readBounded(path);
        known = state;
        onAddresses(
          parseNodeList(text, (line) =>
            log("warning", `${path}, line ${line} is left out: not of the form host[:port]`),
          ),
        );
      }
    } catch (error) {
      if (errorText(error) !== complaint) log("warning", `discovery: ${errorText(error)}; trying again`);
      complaint = errorText(error);
      // What was read before stays good: a file that is being replaced is no reason to forget the nodes.
    }
    await pause(interval, signal, clock);
  }
};

const regularFile = async (path: string) => {
  const found = await stat(path, { bigint: true });
  // Opening anything else (a FIFO, a device) could wait for ever.
  if (!found.isFile()) throw new Error(`${path} is no regular file`);
  return found;
};

const readBounded = async (path: string): Promise<string> => {
  const file = await open(path, "r");
  try {
    const buffer = Buffer.alloc(maxBytes + 1);
    let length = 0;
    for (;;) {
      const { bytesRead } = await file.read(buffer, length, buffer.length - length, length);
      length += bytesRead;
      if (length > maxBytes) throw new Error(`${path} has more than ${maxBytes} bytes`);
      if (bytesRead === 0) return buffer.toString("utf8", 0, length);
    }
  } finally {
    await file.close();
  }
};
