import { internal, NetworkError } from "../errors.ts";
import { familyOf } from "../net/ip.ts";
import { addressOf } from "../net/prefix.ts";
import { explainError } from "./explain-error.ts";
import { errno } from "./libc.ts";
import { getLink, indexOf, LinkExecutor } from "./link-executor.ts";
import type { Namespaces } from "./namespaces.ts";
import {
  changeNeighbors,
  isNeighborOperation,
  type NeighborOperation,
  type Result,
  runs,
} from "./neighbor-executor.ts";
import { decodeAddress, encodeAddress } from "./netlink/address.ts";
import { flushFlows } from "./netlink/conntrack.ts";
import { flag, rtm } from "./netlink/constants.ts";
import { batch, encodeRedirect } from "./netlink/redirect.ts";
import { decodeRoute, encodeRoute } from "./netlink/route.ts";
import { encodeRule } from "./netlink/rule.ts";
import { type NetlinkSocket, netfilterTransaction } from "./netlink/socket.ts";
import { applyNft } from "./nft.ts";
import {
  type FlowMatch,
  hostNamespace,
  inversePlan,
  type NamespaceRef,
  type Operation,
  type Plan,
  type RouteSpec,
} from "./plan.ts";
import type { Redirect } from "./redirect.ts";
import { isRedirect, shownRedirect } from "./redirect-rules.ts";
import { setSysctl } from "./sysctl.ts";

export interface Outcome {
  /** Operations that changed something, in order. */
  readonly done: readonly Operation[];
  /** Operations that took some of them back. */
  readonly undone: readonly Operation[];
  readonly errors: readonly NetworkError[];
}

const refusals = new Map<Operation["op"], readonly number[]>([
  // What an operation wants is so already: not an error. Plans may be repeated.
  ["address.add", [errno.EEXIST]],
  ["rule.add", [errno.EEXIST]],
  ["address.delete", [errno.EADDRNOTAVAIL, errno.ENODEV]],
  ["link.delete", [errno.ENODEV]],
  ["route.delete", [errno.ESRCH, errno.ENODEV]],
  ["rule.delete", [errno.ENOENT]],
  ["neighbor.delete", [errno.ENOENT, errno.ENODEV]],
  ["fdb.delete", [errno.ENOENT, errno.ENODEV]],
]);

const deletions: readonly Operation["op"][] = [
  "namespace.delete",
  "link.delete",
  "address.delete",
  "route.delete",
  "rule.delete",
  "neighbor.delete",
  "fdb.delete",
  "conntrack.flush",
];

/** What an operation wants is so already. */
const isSatisfied = (operation: Operation, error: unknown): boolean => {
  if (!(error instanceof NetworkError)) return false;
  if (error.errno !== undefined && refusals.get(operation.op)?.includes(error.errno)) return true;
  // What lived in a namespace that is gone is gone.
  return error.code === "no-namespace" && deletions.includes(operation.op);
};

/** Applies plans to the kernel, synchronously, on the kernel worker's thread. */
export class Executor {
  readonly namespaces: Namespaces;
  readonly #links: LinkExecutor;
  /** Called between the operations of a plan. */
  onProgress: () => void = () => undefined;
  #batches: number[] = [];

  constructor(namespaces: Namespaces) {
    this.namespaces = namespaces;
    this.#links = new LinkExecutor(namespaces);
  }

  /** Process ids by which the host's rules were changed since the last call: who else changes them can be told apart. */
  takeBatches(): readonly number[] {
    const batches = this.#batches;
    this.#batches = [];
    return batches;
  }

  /** In order; when one fails, those before it are undone in reverse. */
  apply(plan: Plan): Outcome {
    const done: Operation[] = [];
    for (const run of runs(plan)) {
      const outcome = this.#carryOut(run);
      done.push(...outcome.done);
      // The first failure is what the caller hears of; what cannot be undone carries our mark and reconcile removes it.
      if (outcome.errors[0])
        return { done, errors: [outcome.errors[0]], undone: this.teardown(inversePlan(done)).done };
    }
    return { done, undone: [], errors: [] };
  }

  /** Every operation, whatever fails before it. */
  teardown(plan: Plan): Outcome {
    const done: Operation[] = [];
    const errors: NetworkError[] = [];
    for (const run of runs(plan)) {
      const outcome = this.#carryOut(run);
      done.push(...outcome.done);
      errors.push(...outcome.errors);
    }
    return { done, undone: [], errors };
  }

  /** Operations of one run; an operation that changed something is done, with what its inverse needs. */
  #carryOut(run: Plan): Pick<Outcome, "done" | "errors"> {
    this.onProgress();
    const done: Operation[] = [];
    const errors: NetworkError[] = [];
    for (const [n, { changed, error }] of this.#results(run).entries()) {
      const operation = run[n];
      if (operation === undefined) continue;
      if (error === undefined) done.push(...(changed ? [changed] : []));
      else if (!isSatisfied(operation, error)) errors.push(explainError(operation, error));
    }
    return { done, errors };
  }

  #results(run: Plan): readonly Result[] {
    const entries = run.filter(isNeighborOperation);
    const [first] = entries;
    try {
      if (first) return changeNeighbors(this.namespaces.socket(first.namespace), entries);
      return run.map((operation) => ({
        changed: isNeighborOperation(operation) ? undefined : this.perform(operation),
      }));
    } catch (error) {
      return run.map(() => ({ error }));
    }
  }

  /** @returns the operation that was carried out, or undefined where nothing had to change */
  protected perform(operation: Exclude<Operation, NeighborOperation>): Operation | undefined {
    const socket = (): NetlinkSocket =>
      this.namespaces.socket("namespace" in operation ? operation.namespace : operation.path);
    switch (operation.op) {
      case "namespace.add":
        return this.namespaces.add(operation.path, operation) ? operation : undefined;
      case "namespace.delete":
        return this.namespaces.delete(operation.path) ? operation : undefined;
      case "link.add":
      case "link.delete":
      case "link.set":
        return this.#links.execute(operation);
      case "address.add":
      case "address.delete": {
        const add = operation.op === "address.add";
        const index = indexOf(socket(), operation.device);
        socket().request({
          type: add ? rtm.NEWADDR : rtm.DELADDR,
          flags: add ? flag.CREATE | flag.EXCL : 0,
          body: encodeAddress(index, operation.address, {
            broadcast: add,
            nodad: operation.op === "address.add" && operation.nodad === true,
          }),
        });
        return operation;
      }
      case "route.add":
        return addRoute(socket(), operation.route) ? operation : undefined;
      case "route.delete": {
        const { device } = operation.route;
        if (device !== undefined && !getLink(socket(), device)) return undefined;
        socket().request({ type: rtm.DELROUTE, body: encodeRoute(operation.route, (name) => indexOf(socket(), name)) });
        return operation;
      }
      case "rule.add":
        socket().request({ type: rtm.NEWRULE, flags: flag.CREATE | flag.EXCL, body: encodeRule(operation.rule) });
        return operation;
      case "rule.delete":
        socket().request({ type: rtm.DELRULE, body: encodeRule(operation.rule) });
        return operation;
      case "sysctl.set": {
        const was = this.namespaces.enter(operation.namespace, () => setSysctl(operation.key, operation.value));
        return was === undefined ? undefined : { ...operation, was };
      }
      case "nft.apply": {
        const pid = this.namespaces.enter(operation.namespace, () => applyNft(operation.script));
        if (operation.namespace === hostNamespace) this.#batches.push(pid);
        return operation;
      }
      case "nft.redirect":
        return this.namespaces.enter(operation.namespace, () => setRedirect(operation.redirect))
          ? operation
          : undefined;
      case "conntrack.flush":
        return this.#flush(operation.namespace, operation.flows) ? operation : undefined;
    }
  }

  /** @returns false where there was no such flow */
  #flush(namespace: NamespaceRef, flows: readonly FlowMatch[]): boolean {
    const addresses = this.namespaces.socket(namespace).dump({ type: rtm.GETADDR, body: Buffer.alloc(8) });
    const local = addresses.map(({ body }) => addressOf(decodeAddress(body).address));
    return this.namespaces.enter(namespace, () => flushFlows(flows, local)) > 0;
  }
}

/**
 * A transaction that takes rules away makes the kernel wait for a grace period (13 ms) when its socket is closed: what is right
 * already is left alone.
 */
const setRedirect = (redirect: Redirect): boolean => {
  const shown = shownRedirect(redirect);
  if (isRedirect(shown, redirect)) return false;
  netfilterTransaction(batch.begin, encodeRedirect(redirect), batch.end);
  const { udp: before } = shown;
  if (before !== undefined && before !== redirect.udp) {
    // Clients that ask from one port all the time would be led to the old one as long as they ask.
    const { address, port } = redirect;
    flushFlows([{ protocol: "udp", family: familyOf(address), address, port, count: 1 }], []);
  }
  return true;
};

const addRoute = (socket: NetlinkSocket, route: RouteSpec): boolean => {
  const device = route.device === undefined ? undefined : indexOf(socket, route.device);
  const body = encodeRoute(route, () => device ?? 0);
  try {
    socket.request({ type: rtm.NEWROUTE, flags: flag.CREATE | flag.EXCL, body });
    return true;
  } catch (error) {
    if (!(error instanceof NetworkError) || error.errno !== errno.EEXIST) throw error;
  }
  const family = Buffer.alloc(12);
  body.copy(family, 0, 0, 1);
  const name = (index: number) => (route.device !== undefined && device === index ? route.device : "");
  const same = socket.dump({ type: rtm.GETROUTE, body: family }).some(({ body }) => {
    const found = decodeRoute(body, name);
    return found?.to === route.to && found.via === route.via && found.device === (route.device ?? found.device);
  });
  if (!same) throw internal("route-exists", `another route to ${route.to} exists`, { errno: errno.EEXIST });
  return false;
};
