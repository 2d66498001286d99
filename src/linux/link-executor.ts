import { isDeepStrictEqual } from "node:util";
import { forbidden, internal, NetworkError } from "../errors.ts";
import { errno } from "./libc.ts";
import type { Namespaces } from "./namespaces.ts";
import { flag, rtm } from "./netlink/constants.ts";
import {
  type DecodedLink,
  decodeLink,
  encodeBridgePort,
  encodeLinkAdd,
  encodeLinkAddIn,
  encodeLinkSet,
  getLinkRequest,
  type LinkContext,
} from "./netlink/link.ts";
import type { NetlinkSocket, Request } from "./netlink/socket.ts";
import { hostNamespace, type LinkChange, type LinkSpec, type NamespaceRef, type Operation } from "./plan.ts";
import { findSegmentOwner, type Segment, type SegmentOwner } from "./segment-owner.ts";

type LinkOperation = Extract<Operation, { op: "link.add" | "link.delete" | "link.set" }>;

/** A link of a namespace by its name. */
export const getLink = (socket: NetlinkSocket, name: string): DecodedLink | undefined => {
  const message = socket.get(getLinkRequest(name));
  return message && decodeLink(message.body);
};

const requireLink = (socket: NetlinkSocket, name: string): DecodedLink => {
  const link = getLink(socket, name);
  if (!link) throw internal("no-link", `there is no link ${name}`, { errno: errno.ENODEV });
  return link;
};

/** @throws NetworkError `no-link` */
export const indexOf = (socket: NetlinkSocket, name: string): number => requireLink(socket, name).index;

/** What of a change is not so yet. */
const difference = (wanted: LinkChange, found: DecodedLink, indexOfMaster: (name: string) => number): LinkChange => {
  const master = wanted.master === undefined || wanted.master === "" ? undefined : indexOfMaster(wanted.master);
  const isSo: Readonly<Record<keyof LinkChange, boolean>> = {
    up: wanted.up === found.up,
    mtu: wanted.mtu === found.mtu,
    mac: wanted.mac === found.mac,
    master: master === found.master,
    alias: wanted.alias === (found.alias ?? ""),
    name: wanted.name === found.name,
    hairpin: wanted.hairpin === found.hairpin,
  };
  return Object.fromEntries(Object.entries(wanted).filter(([key]) => !isSo[key as keyof LinkChange]));
};

/** Carries out operations on links. */
export class LinkExecutor {
  readonly #namespaces: Namespaces;

  constructor(namespaces: Namespaces) {
    this.#namespaces = namespaces;
  }

  /** @returns the operation, or undefined where nothing had to change */
  execute(operation: LinkOperation): Operation | undefined {
    const { namespace } = operation;
    const socket = this.#namespaces.socket(namespace);
    switch (operation.op) {
      case "link.add":
        return this.#add(operation);
      case "link.delete": {
        const found = getLink(socket, operation.name);
        // A link of that name with another mark is not the one we made.
        if (!found || (operation.alias !== undefined && found.alias !== operation.alias)) return undefined;
        this.#delete(namespace, found.index);
        return operation;
      }
      case "link.set":
        return this.#set(operation) ? operation : undefined;
    }
  }

  /** @returns false where all of it was so already */
  #set({ namespace, name, set: wanted, again }: Extract<LinkOperation, { op: "link.set" }>): boolean {
    const socket = this.#namespaces.socket(namespace);
    const found = requireLink(socket, name);
    const { hairpin, ...set } = again ? wanted : difference(wanted, found, (master) => indexOf(socket, master));
    if (Object.keys(set).length > 0)
      socket.request({ type: rtm.SETLINK, body: encodeLinkSet(found.index, set, this.#context(namespace)) });
    if (hairpin !== undefined) socket.request({ type: rtm.NEWLINK, body: encodeBridgePort(found.index, { hairpin }) });
    return hairpin !== undefined || Object.keys(set).length > 0;
  }

  #context(namespace: NamespaceRef): LinkContext {
    return {
      index: (name) => indexOf(this.#namespaces.socket(namespace), name),
      namespaceFd: (other) => this.#namespaces.fd(other),
    };
  }

  #delete(namespace: NamespaceRef, link: number | string): void {
    const body = encodeLinkSet(link, {}, this.#context(namespace));
    this.#namespaces.socket(namespace).request({ type: rtm.DELLINK, body });
  }

  /** @returns what of a link that is there had to be changed, in place of the operation */
  #add(operation: Extract<LinkOperation, { op: "link.add" }>): Operation | undefined {
    const { namespace, link } = operation;
    const found = getLink(this.#namespaces.socket(namespace), link.name);
    if (found) return this.#adopt(operation, found);
    if (link.kind === "vxlan") this.#makeSegment(namespace, link);
    else this.#make(namespace, link);
    return operation;
  }

  #make(namespace: NamespaceRef, link: LinkSpec): void {
    const context = this.#context(namespace);
    const { up: _up, ...down } = link;
    // The settings of a port come before it is up.
    const body = encodeLinkAdd(link.bridgePort === undefined ? link : down, context);
    const { alias, bridgePort, name } = link;
    // The kernel ignores an alias in the request that makes a link. Both go in one system call: a link without its mark would
    // be nobody's after a crash.
    this.#namespaces
      .socket(namespace)
      .request(
        { type: rtm.NEWLINK, flags: flag.CREATE | flag.EXCL, body },
        ...(alias === undefined ? [] : [{ type: rtm.SETLINK, body: encodeLinkSet(name, { alias }, context) }]),
        ...(bridgePort === undefined ? [] : this.#portRequests(namespace, name, link)),
      );
  }

  #portRequests(namespace: NamespaceRef, link: number | string, spec: LinkSpec): readonly Request[] {
    const up = { type: rtm.SETLINK, body: encodeLinkSet(link, { up: true }, this.#context(namespace)) };
    return [
      ...(spec.bridgePort ? [{ type: rtm.NEWLINK, body: encodeBridgePort(link, spec.bridgePort) }] : []),
      ...(spec.up ? [up] : []),
    ];
  }

  /** A VXLAN device. A stale one of the same mark that holds its VNI elsewhere is removed first; another's is named in the error. */
  #makeSegment(namespace: NamespaceRef, link: Segment): void {
    try {
      this.#makeVxlan(namespace, link);
    } catch (error) {
      if (!(error instanceof NetworkError) || error.errno !== errno.EEXIST) throw error;
      const owner = findSegmentOwner(this.#namespaces, namespace, link);
      if (owner === undefined || owner.alias === undefined || owner.alias !== link.alias) throw taken(link, owner);
      this.#delete(owner.namespace, owner.index);
      this.#makeVxlan(namespace, link);
    }
  }

  #makeVxlan(namespace: NamespaceRef, link: Segment): void {
    if (link.underlay === undefined || link.underlay === namespace) {
      this.#make(namespace, link);
      return;
    }
    // The kernel opens the socket of a VXLAN device in the namespace that asked for it.
    const underlay = this.#namespaces.socket(link.underlay);
    const body = encodeLinkAddIn(link, namespace, this.#context(namespace));
    underlay.request({ type: rtm.NEWLINK, flags: flag.CREATE | flag.EXCL, body });
    const { alias, master, name } = link;
    const set = { ...(alias !== undefined && { alias }), ...(master !== undefined && { master }) };
    try {
      this.#namespaces
        .socket(namespace)
        .request(
          { type: rtm.SETLINK, body: encodeLinkSet(name, set, this.#context(namespace)) },
          ...this.#portRequests(namespace, name, link),
        );
    } catch (error) {
      this.#delete(namespace, name);
      throw error;
    }
  }

  /** A link that is there already must be ours and of the same kind; its settings are made right. */
  #adopt(operation: Extract<LinkOperation, { op: "link.add" }>, found: DecodedLink): Operation | undefined {
    const { namespace, link } = operation;
    if (found.kind !== link.kind || (found.alias !== link.alias && !cutShort(namespace, link, found))) {
      const owner = found.alias === undefined ? "has no mark of ours" : `is marked ${JSON.stringify(found.alias)}`;
      throw forbidden("foreign-link", `link ${link.name} exists already and ${owner}`, {
        errno: errno.EEXIST,
        hint: `look at it with: ip -d link show dev ${link.name}`,
      });
    }
    if (this.#mustBeMadeAnew(link, found)) {
      this.#delete(namespace, found.index);
      return this.#add(operation);
    }
    const { alias, mtu, mac, master, up } = link;
    const wanted: LinkChange = {
      ...(alias !== undefined && { alias }),
      ...(mtu !== undefined && { mtu }),
      ...(mac !== undefined && { mac }),
      ...(master !== undefined && { master }),
      ...(up && { up }),
    };
    const set = difference(wanted, found, (name) => indexOf(this.#namespaces.socket(namespace), name));
    const change = { type: rtm.SETLINK, body: encodeLinkSet(found.index, set, this.#context(namespace)) };
    const port = link.bridgePort && { type: rtm.NEWLINK, body: encodeBridgePort(found.index, link.bridgePort) };
    const requests = [...(Object.keys(set).length > 0 ? [change] : []), ...(port ? [port] : [])];
    if (requests.length > 0) this.#namespaces.socket(namespace).request(...requests);
    return Object.keys(set).length > 0 ? { op: "link.set", namespace, name: link.name, set } : undefined;
  }

  /** What cannot be changed is not as it should be. */
  #mustBeMadeAnew(link: LinkSpec, found: DecodedLink): boolean {
    if (link.kind === "veth") return !this.#hasPeer(link.peer, found);
    if (link.kind !== "vxlan" || found.vxlan === undefined) return false;
    const { vni, port, local, learning = true, proxy = false, l2miss = false, l3miss = false } = link;
    return !isDeepStrictEqual(found.vxlan, { vni, port, ...(local && { local }), learning, proxy, l2miss, l3miss });
  }

  #hasPeer(peer: { readonly name: string; readonly namespace: NamespaceRef }, found: DecodedLink): boolean {
    const other = getLink(this.#namespaces.socket(peer.namespace), peer.name);
    return other !== undefined && other.index === found.peer && other.peer === found.index;
  }
}

/** A device made from another namespace gets its mark in a second call: after a crash between the two it has none yet. */
const cutShort = (namespace: NamespaceRef, link: LinkSpec, found: DecodedLink): boolean =>
  link.kind === "vxlan" &&
  link.underlay !== undefined &&
  link.underlay !== namespace &&
  found.alias === undefined &&
  found.vxlan?.vni === link.vni;

const taken = (link: Segment, owner: SegmentOwner | undefined): NetworkError => {
  const text = `VNI ${link.vni} on port ${link.port} is taken already`;
  if (owner === undefined) {
    return forbidden("foreign-link", `${text}, by a VXLAN device in a namespace that has no name here`, {
      errno: errno.EEXIST,
      hint: "a process holds that namespace: look with lsns -t net",
    });
  }
  const { name, namespace, alias } = owner;
  const where = namespace === hostNamespace ? "of the host" : `in ${namespace}`;
  const mark = alias === undefined ? "that has no mark of ours" : `marked ${JSON.stringify(alias)}`;
  const enter = namespace === hostNamespace ? "" : `nsenter --net=${namespace} `;
  return forbidden("foreign-link", `${text}, by link ${name} ${where} ${mark}`, {
    errno: errno.EEXIST,
    hint: `look at it with: ${enter}ip -d link show dev ${name}`,
  });
};
