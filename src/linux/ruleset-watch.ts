import { closeSync, readSync } from "node:fs";
import { NetworkError } from "../errors.ts";
import { type RulesetChange, RulesetChanges } from "./netlink/nftables.ts";

/**
 * Node's event loop watches no netlink sockets, and a thread that waits for one costs memory. So the kernel sends SIGIO when
 * there is something to read (fcntl(2), O_ASYNC), which libuv turns into an event like any other: nothing polls.
 */

/** Datagrams that are read in one go: others have their turn while somebody changes rules without end. */
const turn = 64;

const readers = new Set<() => void>();

/** The handler stays for good: without one, a late SIGIO ends the process. */
const listen = (): void => {
  if (process.listeners("SIGIO").includes(readAll)) return;
  process.on("SIGIO", readAll);
};
const readAll = (): void => {
  for (const read of readers) read();
};

/** What is told of a change; undefined where notifications got lost and anything may have changed. */
export type OnRulesetChange = (change: RulesetChange | undefined) => void;

/** Must be called before a descriptor is made that signals. */
export const prepareRulesetWatch = listen;

/** Reads a descriptor of `openRulesetWatch` until it is stopped, which closes it. */
export const watchRuleset = (fd: number, onChange: OnRulesetChange): (() => void) => {
  const changes = new RulesetChanges();
  const buffer = Buffer.alloc(64 * 1024);
  let stopped = false;
  const read = (): void => {
    for (let datagrams = 0; !stopped && datagrams < turn; datagrams++) {
      let found: readonly (RulesetChange | undefined)[];
      try {
        found = changes.read(buffer.subarray(0, readSync(fd, buffer, 0, buffer.length, null)));
      } catch (error) {
        const { code } = error as { code?: string };
        if (code === "EAGAIN") return;
        changes.reset();
        onChange(undefined);
        // ENOBUFS: more came than the socket holds; a NetworkError: a datagram that makes no sense. Reading goes on.
        if (code !== "ENOBUFS" && !(error instanceof NetworkError)) return;
        continue;
      }
      for (const change of found) onChange(change);
    }
    if (!stopped) setImmediate(read);
  };
  readers.add(read);
  read();
  return () => {
    stopped = true;
    readers.delete(read);
    closeSync(fd);
  };
};
