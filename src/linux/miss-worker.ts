import { readSync } from "node:fs";
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { NetworkError } from "../errors.ts";
import { close, errno, eventfd, poll, recv } from "./libc.ts";
import { type MissReport, type MissRequest, shared } from "./miss-messages.ts";
import { rtm } from "./netlink/constants.ts";
import { decodeMessages } from "./netlink/message.ts";
import { decodeNeighbor } from "./netlink/neighbor.ts";

/**
 * The miss worker: a thread that waits in poll(2) for what the sockets of all watched namespaces have to say. Node has no
 * event for a netlink socket; a thread of its own costs nothing while nothing happens. It enters no namespace.
 */

/** The same miss is reported again after this time (ms). */
const quiet = 1_000;
/** Misses remembered for that, and reports in that time: a sandbox can make as many as it likes. */
const bound = 4_096;

const port = parentPort;
if (port === null) throw new Error("miss-worker runs as a worker thread only");
const memory = new Int32Array(workerData as SharedArrayBuffer);

const report = (message: MissReport): void => port.postMessage(message);
const sockets = new Map<number, number>();
const buffer = Buffer.alloc(64 * 1024);
const seen = new Set<string>();
let since = Date.now();

/** @returns false where this was reported a moment ago, or too much was */
const isNew = (key: string): boolean => {
  const now = Date.now();
  if (now - since >= quiet) {
    seen.clear();
    since = now;
  }
  if (seen.has(key) || seen.size >= bound) return false;
  seen.add(key);
  return true;
};

/** Everything that a socket has. */
const drain = (id: number, fd: number): void => {
  for (;;) {
    let length: number;
    try {
      length = recv(fd, buffer);
    } catch (error) {
      // ENOBUFS: some were lost; their packets will miss again.
      if (error instanceof NetworkError && error.errno === errno.ENOBUFS) continue;
      if (error instanceof NetworkError && error.errno === errno.EAGAIN) return;
      throw error;
    }
    for (const { type, body } of decodeMessages(buffer.subarray(0, length))) {
      if (type !== rtm.GETNEIGH) continue;
      const { ip, mac, index } = decodeNeighbor(body);
      if ((ip === undefined && mac === undefined) || !isNew(`${id} ${ip ?? mac}`)) continue;
      report({ id, link: index, ...(ip !== undefined ? { ip } : mac !== undefined && { mac }) });
    }
  }
};

const obey = (request: MissRequest): void => {
  const fd = sockets.get(request.id);
  if (request.kind === "add") sockets.set(request.id, request.fd);
  else if (fd !== undefined) {
    sockets.delete(request.id);
    close(fd);
  }
};

const wake = eventfd();
Atomics.store(memory, shared.wake, wake);

const takeRequests = (): void => {
  for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port))
    obey(next.message as MissRequest);
};

try {
  while (Atomics.load(memory, shared.ended) === 0) {
    takeRequests();
    const watched = [...sockets];
    const [woken, ...readable] = poll([wake, ...watched.map(([, fd]) => fd)]);
    // Emptied before the requests are looked at: one that comes after wakes again.
    if (woken && Atomics.load(memory, shared.ended) === 0) readSync(wake, buffer, 0, 8, null);
    for (const [n, [id, fd]] of watched.entries()) if (readable[n]) drain(id, fd);
  }
} finally {
  takeRequests();
  for (const fd of sockets.values()) close(fd);
}
