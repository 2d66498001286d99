import { isZero } from "./describe.ts";
import { errno } from "./libc.ts";
import { indexOf } from "./link-executor.ts";
import { flag, rtm } from "./netlink/constants.ts";
import { encodeBridgeFdb, encodeFdb, encodeNeighbor } from "./netlink/neighbor.ts";
import type { NetlinkSocket, Request } from "./netlink/socket.ts";
import type { Operation, Plan } from "./plan.ts";

/** Entries of neighbour and forwarding tables: an overlay has thousands of them, so they go to the kernel many at a time. */

/** Requests in one system call; the answers to all of them fit a socket's standard buffer several times over. */
const batch = 64;

export type NeighborOperation = Extract<
  Operation,
  { op: "neighbor.add" | "neighbor.delete" | "fdb.add" | "fdb.delete" }
>;

export const isNeighborOperation = (operation: Operation): operation is NeighborOperation =>
  operation.op === "neighbor.add" ||
  operation.op === "neighbor.delete" ||
  operation.op === "fdb.add" ||
  operation.op === "fdb.delete";

/** What became of one operation; without `changed`, nothing had to change. */
export interface Result {
  readonly changed?: Operation | undefined;
  readonly error?: unknown;
}

/** A plan in pieces: entries of one device that follow each other, up to a batch of them; everything else by itself. */
export const runs = (plan: Plan): readonly Plan[] => {
  const result: Operation[][] = [];
  for (const operation of plan) {
    const run = result.at(-1);
    if (run && run.length < batch && belongs(run[0], operation)) run.push(operation);
    else result.push([operation]);
  }
  return result;
};

const belongs = (first: Operation | undefined, next: Operation): boolean =>
  first !== undefined &&
  isNeighborOperation(first) &&
  isNeighborOperation(next) &&
  first.namespace === next.namespace &&
  first.device === next.device;

const adds = ({ op }: NeighborOperation): boolean => op === "neighbor.add" || op === "fdb.add";

const encode = (index: number, operation: NeighborOperation): Buffer => {
  if ("ip" in operation) return encodeNeighbor(index, operation.ip, operation.mac);
  if (operation.destination === undefined) return encodeBridgeFdb(index, operation.mac);
  return encodeFdb(index, operation.mac, operation.destination);
};

/**
 * Carries out a run of operations of one device, in its namespace. An entry that is there already is replaced; that has no
 * inverse, since nobody knows what it was.
 * @throws NetworkError `no-link`
 */
export const changeNeighbors = (socket: NetlinkSocket, operations: readonly NeighborOperation[]): readonly Result[] => {
  const [first] = operations;
  if (first === undefined) return [];
  const index = indexOf(socket, first.device);
  const request = (operation: NeighborOperation, mode: number): Request => ({
    type: adds(operation) ? rtm.NEWNEIGH : rtm.DELNEIGH,
    flags: adds(operation) ? flag.CREATE | mode : 0,
    body: encode(index, operation),
  });
  // The entry for flooding has many destinations: the kernel refuses to replace it and refuses to append to others.
  const answers = socket.requestEach(
    operations.map((operation) => request(operation, isZero(operation.mac) ? flag.APPEND : flag.EXCL)),
  );
  const present = operations.filter((operation, n) => adds(operation) && answers[n]?.errno === errno.EEXIST);
  const replaced = new Map(
    socket
      .requestEach(present.map((operation) => request(operation, flag.REPLACE)))
      .map((error, n) => [present[n], error]),
  );
  return operations.map((operation, n): Result => {
    const error = replaced.has(operation) ? replaced.get(operation) : answers[n];
    if (error) return { error };
    return replaced.has(operation) ? {} : { changed: operation };
  });
};
