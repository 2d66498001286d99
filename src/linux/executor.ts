import { errorText, forbidden, internal, NetworkError } from "../errors.ts";
import { addressOf } from "../net/prefix.ts";
import { describeShort, isZero } from "./describe.ts";
import { errno } from "./libc.ts";
import type { Namespaces } from "./namespaces.ts";
import { decodeAddress, encodeAddress } from "./netlink/address.ts";
import { flushFlows } from "./netlink/conntrack.ts";
import { flag, rtm } from "./netlink/constants.ts";
import {
  type DecodedLink,
  decodeLink,
  encodeBridgePort,
  encodeLinkAdd,
  encodeLinkSet,
  getLinkRequest,
} from "./netlink/link.ts";
import { encodeFdb, encodeNeighbor } from "./netlink/neighbor.ts";
import { decodeRoute, encodeRoute } from "./netlink/route.ts";
import { encodeRule } from "./netlink/rule.ts";
import type { NetlinkSocket } from "./netlink/socket.ts";
import { applyNft } from "./nft.ts";
import {
  type FlowMatch,
  inverse,
  type LinkSpec,
  type NamespaceRef,
  type Operation,
  type Plan,
  type RouteSpec,
} from "./plan.ts";
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

/** Applies plans to the kernel, synchronously, on the kernel worker's thread. */
export class Executor {
  readonly #namespaces: Namespaces;

  constructor(namespaces: Namespaces) {
    this.#namespaces = namespaces;
  }

  /** In order; when one fails, those before it are undone in reverse. */
  apply(plan: Plan): Outcome {
    const done: Operation[] = [];
    for (const operation of plan) {
      try {
        const change = this.#execute(operation);
        if (change) done.push(change);
      } catch (error) {
        return { done, errors: [explain(operation, error)], ...this.#undo(done) };
      }
    }
    return { done, undone: [], errors: [] };
  }

  /** Every operation, whatever fails before it. */
  teardown(plan: Plan): Outcome {
    const done: Operation[] = [];
    const errors: NetworkError[] = [];
    for (const operation of plan) {
      try {
        const change = this.#execute(operation);
        if (change) done.push(change);
      } catch (error) {
        errors.push(explain(operation, error));
      }
    }
    return { done, undone: [], errors };
  }

  #undo(done: readonly Operation[]): Pick<Outcome, "undone"> {
    const undone: Operation[] = [];
    for (const operation of [...done].reverse()) {
      const back = inverse(operation);
      if (!back) continue;
      try {
        this.#execute(back);
        undone.push(back);
      } catch {
        // The first failure is what the caller hears of; what stays carries our mark and reconcile removes it.
      }
    }
    return { undone };
  }

  /** @returns the operation that was carried out (with what its inverse needs), or undefined where nothing had to change */
  #execute(operation: Operation): Operation | undefined {
    try {
      return this.#perform(operation);
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error;
      if (error.errno !== undefined && refusals.get(operation.op)?.includes(error.errno)) return undefined;
      // What lived in a namespace that is gone is gone.
      if (error.code === "no-namespace" && deletions.includes(operation.op)) return undefined;
      throw error;
    }
  }

  #perform(operation: Operation): Operation | undefined {
    const socket = (): NetlinkSocket =>
      this.#namespaces.socket("namespace" in operation ? operation.namespace : operation.path);
    switch (operation.op) {
      case "namespace.add":
        return this.#namespaces.add(operation.path, operation.of) ? operation : undefined;
      case "namespace.delete":
        return this.#namespaces.delete(operation.path) ? operation : undefined;
      case "link.add":
        return this.#addLink(operation.namespace, operation.link) ? operation : undefined;
      case "link.delete": {
        const found = getLink(socket(), operation.name);
        // A link of that name with another mark is not the one we made.
        if (!found || (operation.alias !== undefined && found.alias !== operation.alias)) return undefined;
        socket().request({
          type: rtm.DELLINK,
          body: encodeLinkSet(found.index, {}, this.#context(operation.namespace)),
        });
        return operation;
      }
      case "link.set": {
        const index = indexOf(socket(), operation.name);
        const { hairpin, ...set } = operation.set;
        if (Object.keys(set).length > 0) {
          const body = encodeLinkSet(index, set, this.#context(operation.namespace));
          socket().request({ type: rtm.SETLINK, body });
        }
        if (hairpin !== undefined) socket().request({ type: rtm.SETLINK, body: encodeBridgePort(index, { hairpin }) });
        return operation;
      }
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
      case "neighbor.add":
      case "neighbor.delete":
      case "fdb.add":
      case "fdb.delete":
        return changeNeighbor(socket(), operation);
      case "sysctl.set": {
        const was = this.#namespaces.enter(operation.namespace, () => setSysctl(operation.key, operation.value));
        return was === undefined ? undefined : { ...operation, was };
      }
      case "nft.apply":
        this.#namespaces.enter(operation.namespace, () => applyNft(operation.script));
        return operation;
      case "conntrack.flush":
        return this.#flush(operation.namespace, operation.flows) ? operation : undefined;
    }
  }

  /** @returns false where there was no such flow */
  #flush(namespace: NamespaceRef, flows: readonly FlowMatch[]): boolean {
    const addresses = this.#namespaces.socket(namespace).dump({ type: rtm.GETADDR, body: Buffer.alloc(8) });
    const local = addresses.map(({ body }) => addressOf(decodeAddress(body).address));
    return this.#namespaces.enter(namespace, () => flushFlows(flows, local)) > 0;
  }

  #context(namespace: NamespaceRef) {
    return {
      index: (name: string) => indexOf(this.#namespaces.socket(namespace), name),
      namespaceFd: (other: NamespaceRef) => this.#namespaces.fd(other),
    };
  }

  #addLink(namespace: NamespaceRef, link: LinkSpec): boolean {
    const socket = this.#namespaces.socket(namespace);
    const found = getLink(socket, link.name);
    if (found) return this.#adoptLink(namespace, link, found);
    const context = this.#context(namespace);
    const add = {
      type: rtm.NEWLINK,
      flags: flag.CREATE | flag.EXCL,
      body: encodeLinkAdd(link, context),
    };
    // The kernel ignores an alias in the request that makes a link. Both go in one system call: a link without its mark would
    // be nobody's after a crash.
    if (link.alias === undefined) socket.request(add);
    else socket.request(add, { type: rtm.SETLINK, body: encodeLinkSet(link.name, { alias: link.alias }, context) });
    return true;
  }

  /** A link that is there already must be ours and of the same kind; its settings are made right. @returns false: nothing to undo */
  #adoptLink(namespace: NamespaceRef, link: LinkSpec, found: DecodedLink): boolean {
    if (found.alias !== link.alias || found.kind !== link.kind) {
      const owner = found.alias === undefined ? "has no mark of ours" : `is marked ${JSON.stringify(found.alias)}`;
      throw forbidden("foreign-link", `link ${link.name} exists already and ${owner}`, {
        errno: errno.EEXIST,
        hint: `look at it with: ip -d link show dev ${link.name}`,
      });
    }
    const socket = this.#namespaces.socket(namespace);
    if (link.kind === "veth" && !this.#hasPeer(link.peer, found)) {
      socket.request({ type: rtm.DELLINK, body: encodeLinkSet(found.index, {}, this.#context(namespace)) });
      return this.#addLink(namespace, link);
    }
    const set = {
      ...(link.mtu !== undefined && link.mtu !== found.mtu && { mtu: link.mtu }),
      ...(link.mac !== undefined && link.mac !== found.mac && { mac: link.mac }),
      ...(link.master !== undefined && { master: link.master }),
      ...(link.up && !found.up && { up: true }),
    };
    if (Object.keys(set).length > 0) {
      socket.request({ type: rtm.SETLINK, body: encodeLinkSet(found.index, set, this.#context(namespace)) });
    }
    return false;
  }

  #hasPeer(peer: { readonly name: string; readonly namespace: NamespaceRef }, found: DecodedLink): boolean {
    const other = getLink(this.#namespaces.socket(peer.namespace), peer.name);
    return other !== undefined && other.index === found.peer && other.peer === found.index;
  }
}

const getLink = (socket: NetlinkSocket, name: string): DecodedLink | undefined => {
  const message = socket.get(getLinkRequest(name));
  return message && decodeLink(message.body);
};

const indexOf = (socket: NetlinkSocket, name: string): number => {
  const link = getLink(socket, name);
  if (!link) throw internal("no-link", `there is no link ${name}`, { errno: errno.ENODEV });
  return link.index;
};

const addRoute = (socket: NetlinkSocket, route: RouteSpec): boolean => {
  const body = encodeRoute(route, (name) => indexOf(socket, name));
  try {
    socket.request({ type: rtm.NEWROUTE, flags: flag.CREATE | flag.EXCL, body });
    return true;
  } catch (error) {
    if (!(error instanceof NetworkError) || error.errno !== errno.EEXIST) throw error;
  }
  const family = Buffer.alloc(12);
  body.copy(family, 0, 0, 1);
  const name = (index: number) =>
    route.device !== undefined && indexOf(socket, route.device) === index ? route.device : "";
  const same = socket.dump({ type: rtm.GETROUTE, body: family }).some(({ body }) => {
    const found = decodeRoute(body, name);
    return found?.to === route.to && found.via === route.via && found.device === (route.device ?? found.device);
  });
  if (!same) throw internal("route-exists", `another route to ${route.to} exists`, { errno: errno.EEXIST });
  return false;
};

type NeighborOperation = Extract<Operation, { op: "neighbor.add" | "neighbor.delete" | "fdb.add" | "fdb.delete" }>;

const changeNeighbor = (socket: NetlinkSocket, operation: NeighborOperation): Operation => {
  const index = indexOf(socket, operation.device);
  const add = operation.op === "neighbor.add" || operation.op === "fdb.add";
  const body =
    "ip" in operation
      ? encodeNeighbor(index, operation.ip, operation.mac)
      : encodeFdb(index, operation.mac, operation.destination);
  // The entry for flooding has many destinations: the kernel refuses to replace it and refuses to append to others.
  const mode = "destination" in operation && isZero(operation.mac) ? flag.APPEND : flag.REPLACE;
  socket.request({
    type: add ? rtm.NEWNEIGH : rtm.DELNEIGH,
    flags: add ? flag.CREATE | mode : 0,
    body,
  });
  return operation;
};

/** An error as users see it: what was tried, in the words of `ip`, and what the kernel said. */
const explain = (operation: Operation, error: unknown): NetworkError => {
  const text = `${describeShort(operation)}: ${errorText(error)}`;
  if (!(error instanceof NetworkError)) return internal("kernel", text, { cause: error });
  return new NetworkError(error.kind, error.code, text, {
    ...(error.hint !== undefined && { hint: error.hint }),
    ...(error.errno !== undefined && { errno: error.errno }),
  });
};
