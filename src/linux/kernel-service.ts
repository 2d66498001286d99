import type { MessagePort } from "node:worker_threads";
import { internal, NetworkError } from "../errors.ts";
import { compareTables } from "./compare-tables.ts";
import type { Executor } from "./executor.ts";
import type { ErrorData, KernelProgress, KernelReply, KernelRequest } from "./kernel-messages.ts";
import { trimMemory } from "./libc.ts";
import { lookup } from "./lookup.ts";
import { openMissSocket } from "./miss-socket.ts";
import { neighborEntries } from "./neighbor-entries.ts";
import { neighborTables } from "./netlink/neighbor-tables.ts";
import { forwardDrops } from "./nft.ts";
import { holdConnections, openNotifications } from "./notification-sockets.ts";
import { observe } from "./observe.ts";
import { hostNamespace, type Operation, type Plan } from "./plan.ts";
import { portOwner } from "./port-owner.ts";
import { openSockets } from "./sockets.ts";

/** A namespace that nobody asked for in this time (ms) is let go: our descriptor would keep it alive. */
const idle = 2_000;

/** Milliseconds between two words of a long plan that it goes on. */
const progressInterval = 200;

const data = (error: unknown): ErrorData => {
  const typed = error instanceof NetworkError ? error : internal("kernel", String(error), { cause: error });
  return {
    kind: typed.kind,
    code: typed.code,
    message: typed.message,
    ...(typed.hint !== undefined && { hint: typed.hint }),
    ...(typed.errno !== undefined && { errno: typed.errno }),
  };
};

/** Numbers are cheap to send, and a plan may have tens of thousands of operations. */
const places = (plan: Plan, done: readonly Operation[]): readonly (number | Operation)[] => {
  const place = new Map(plan.map((operation, n) => [operation, n]));
  return done.map((operation) => place.get(operation) ?? operation);
};

const answer = (executor: Executor, request: KernelRequest): KernelReply => {
  const { id } = request;
  const { namespaces } = executor;
  try {
    switch (request.kind) {
      case "apply":
      case "teardown": {
        const { done, undone, errors } = executor[request.kind](request.plan);
        return {
          id,
          done: places(request.plan, done),
          undone,
          errors: errors.map(data),
          batches: executor.takeBatches(),
        };
      }
      case "observe":
        return { id, errors: [], observed: observe(namespaces, request.namespace, request.of) };
      case "entries":
        return { id, errors: [], entries: neighborEntries(namespaces, request.namespace) };
      case "lookup":
        return { id, errors: [], found: lookup(namespaces, request.namespace, request.query) };
      case "miss-socket":
        return { id, errors: [], sockets: [{ fd: namespaces.enter(request.namespace, openMissSocket), port: 0 }] };
      case "compare":
        return { id, errors: [], differences: compareTables(namespaces, request.script, request.tables) };
      case "close":
        namespaces.close();
        return { id, errors: [] };
      case "watch":
        return { id, errors: [], sockets: [{ fd: openNotifications(request.topic), port: 0 }] };
      case "forward-drops":
        return { id, errors: [], forwardDrops: forwardDrops() };
      case "port-owner":
        return { id, errors: [], portOwner: portOwner(request.protocol, request.port) };
      case "neighbors":
        return { id, errors: [], neighborTables: neighborTables(namespaces.socket(hostNamespace)) };
      case "hold":
        return { id, errors: [], sockets: [{ fd: holdConnections(request.table), port: 0 }] };
      case "sockets":
        return { id, errors: [], sockets: namespaces.enter(request.namespace, () => openSockets(request.sockets)) };
    }
  } catch (error) {
    return { id, errors: [data(error)] };
  }
};

/** Serves the kernel on the calling thread, from then on the one that enters namespaces: one request after the other, synchronously. */
export const serveKernel = (port: MessagePort | null, executor: Executor): void => {
  if (port === null) throw new Error("the kernel worker runs as a worker thread only");
  let told = performance.now();
  executor.onProgress = () => {
    const now = performance.now();
    if (now - told < progressInterval) return;
    told = now;
    port.postMessage({ kind: "progress" } satisfies KernelProgress);
  };
  port.on("message", (request: KernelRequest) => port.postMessage(answer(executor, request)));
  setInterval(() => {
    executor.namespaces.closeIdle(idle);
    // Buffers of requests, replies and packets come and go in 64 KiB; what lies between them keeps malloc's heap from shrinking.
    trimMemory();
  }, idle).unref();
};
