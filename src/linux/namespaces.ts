import { mkdirSync, rmSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { internal, NetworkError } from "../errors.ts";
import { descriptorLimit } from "./descriptors.ts";
import {
  bindMount,
  close,
  detachMount,
  errno,
  isNamespaceFile,
  MNT_DETACH,
  O,
  open,
  setns,
  unshareNetwork,
} from "./libc.ts";
import { rtm } from "./netlink/constants.ts";
import { encodeLinkSet, type LinkContext } from "./netlink/link.ts";
import { NetlinkSocket } from "./netlink/socket.ts";
import { placeMark } from "./nsfs.ts";
import { hostNamespace, type NamespaceRef } from "./plan.ts";

interface OpenNamespace {
  readonly fd: number;
  /** Identity of the namespace: its inode in nsfs. */
  readonly inode: number;
  /** Of routing, opened when it is asked for. */
  socket?: NetlinkSocket;
  lastUsed: number;
}

/**
 * Sockets are kept for as many namespaces; an open one holds its namespace alive. Each has two descriptors: a process that may
 * open few of them needs those for what cannot wait.
 */
const poolSizeFor = (limit: number): number => Math.max(4, Math.min(32, Math.floor((limit - 64) / 16)));

/** What is said of a loopback names no other link and no namespace. */
const alone: LinkContext = { index: () => 0, namespaceFd: () => -1 };

const errnoOf = (error: unknown): number | undefined => (error instanceof NetworkError ? error.errno : undefined);

/**
 * The only code that enters namespaces; it lives on the kernel worker's thread. Everything between entering and leaving is
 * synchronous: an asynchronous call would make libuv start its pool threads inside, where they would stay.
 */
export class Namespaces {
  /** `/proc/thread-self`, never `/proc/self`: that is the main thread's. */
  static readonly #self = "/proc/thread-self/ns/net";
  readonly #home: OpenNamespace & { readonly socket: NetlinkSocket };
  readonly #pool = new Map<string, OpenNamespace>();
  readonly #newSocket: () => NetlinkSocket;
  readonly #poolSize = poolSizeFor(descriptorLimit());

  /** @param newSocket opens a routing socket in the namespace in which the thread is */
  constructor(newSocket: () => NetlinkSocket = () => new NetlinkSocket()) {
    this.#newSocket = newSocket;
    const fd = open(Namespaces.#self, O.RDONLY);
    this.#home = { fd, inode: statSync(Namespaces.#self).ino, socket: newSocket(), lastUsed: 0 };
  }

  /** Runs synchronous work inside a namespace and comes back. @throws NetworkError `no-namespace` */
  enter<T>(namespace: NamespaceRef, work: () => T): T {
    if (namespace === hostNamespace) return work();
    return this.#inside(this.#find(namespace).fd, work);
  }

  /** Runs synchronous work in a new, empty namespace that goes when the work is done. */
  scratch<T>(work: () => T): T {
    unshareNetwork();
    try {
      return work();
    } finally {
      this.#leave();
    }
  }

  /** The routing socket of a namespace. @throws NetworkError `no-namespace` */
  socket(namespace: NamespaceRef): NetlinkSocket {
    const found = this.#find(namespace);
    found.socket ??= this.#inside(found.fd, this.#newSocket);
    return found.socket;
  }

  /** A descriptor of a namespace, valid until the next call. @throws NetworkError `no-namespace` */
  fd(namespace: NamespaceRef): number {
    return this.#find(namespace).fd;
  }

  /** Inode of a namespace, or undefined where the path is no namespace. */
  inode(namespace: NamespaceRef): number | undefined {
    try {
      return this.#find(namespace).inode;
    } catch (error) {
      if (error instanceof NetworkError && error.code === "no-namespace") return undefined;
      throw error;
    }
  }

  /**
   * Makes a namespace with its loopback up and mounts it on a path, or mounts an existing one (`of`) there.
   * @param alias of the loopback
   * @returns false where the path is a namespace already
   */
  add(path: string, { of, alias }: { readonly of?: NamespaceRef; readonly alias?: string } = {}): boolean {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    if (!this.#makeFile(path)) return false;
    try {
      if (of !== undefined) this.enter(of, () => this.mount(path));
      else this.#create(path, alias);
      return true;
    } catch (error) {
      this.delete(path);
      throw error;
    }
  }

  #create(path: string, alias: string | undefined): void {
    try {
      unshareNetwork();
      const socket = this.#newSocket();
      try {
        // By name, not by number: the loopback is 1 only by convention.
        const change = { up: true, ...(alias !== undefined && { alias }) };
        socket.request({ type: rtm.SETLINK, body: encodeLinkSet("lo", change, alone) });
        // Last, so that whoever finds a namespace here, after a crash at any moment, finds its loopback up and whose it is.
        this.mount(path);
      } catch (error) {
        socket.close();
        throw error;
      }
      this.#keep(path, { fd: open(path, O.RDONLY), inode: statSync(path).ino, socket, lastUsed: Date.now() });
    } finally {
      this.#leave();
    }
  }

  /** Takes a namespace's path away; the kernel removes the namespace when nobody uses it. @returns false where there was none */
  delete(path: string): boolean {
    this.#forget(path);
    // Mounts may lie on top of each other where an earlier life was cut short.
    for (let depth = 0; depth < 16; depth++) {
      let fd: number;
      try {
        fd = open(path, O.RDONLY | O.NOFOLLOW);
      } catch (error) {
        if (errnoOf(error) === errno.ENOENT) return false;
        throw error;
      }
      const mounted = isNamespaceFile(fd);
      close(fd);
      if (!mounted) {
        if (statSync(path).size > 0) throw internal("foreign-file", `${path} is a file of somebody else: left alone`);
        rmSync(path);
        return true;
      }
      this.unmount(path);
    }
    throw internal("busy-namespace", `${path} could not be unmounted (umount2 flags ${MNT_DETACH})`);
  }

  /** The namespace in which the thread is gets its path. */
  protected mount(path: string): void {
    bindMount(Namespaces.#self, path);
  }

  /** Waits for the kernel's readers for milliseconds: a process that is killed meanwhile leaves the empty file. */
  protected unmount(path: string): void {
    detachMount(path);
  }

  /** Lets go of namespaces that nothing asked for in the last `idle` milliseconds. */
  closeIdle(idle: number): void {
    const now = Date.now();
    for (const [path, { lastUsed }] of this.#pool) if (now - lastUsed >= idle) this.#forget(path);
  }

  close(): void {
    this.closeIdle(0);
    this.#home.socket.close();
    close(this.#home.fd);
  }

  /** @returns false where the path is a namespace already; true where an empty file is there to be mounted on */
  #makeFile(path: string): boolean {
    let fd: number;
    try {
      fd = open(path, O.RDONLY | O.CREAT | O.EXCL | O.NOFOLLOW, 0o644 | placeMark);
    } catch (error) {
      if (errnoOf(error) !== errno.EEXIST) throw error;
      fd = open(path, O.RDONLY | O.NOFOLLOW);
    }
    const present = isNamespaceFile(fd);
    close(fd);
    return !present;
  }

  #find(namespace: NamespaceRef): OpenNamespace {
    if (namespace === hostNamespace) return this.#home;
    const known = this.#pool.get(namespace);
    const inode = inodeOf(namespace);
    if (known && known.inode === inode) {
      known.lastUsed = Date.now();
      this.#pool.delete(namespace);
      this.#pool.set(namespace, known);
      return known;
    }
    if (known) this.#forget(namespace);
    return this.#keep(namespace, this.#open(namespace));
  }

  #open(path: string): OpenNamespace {
    const missing = (cause?: unknown) =>
      internal("no-namespace", `there is no network namespace at ${path}`, { cause });
    let fd: number;
    try {
      fd = open(path, O.RDONLY);
    } catch (error) {
      throw errnoOf(error) === errno.ENOENT ? missing(error) : error;
    }
    if (!isNamespaceFile(fd)) {
      close(fd);
      throw missing();
    }
    try {
      // Entered once, so that what is no namespace of the network shows here.
      this.#inside(fd, () => undefined);
      return { fd, inode: statSync(path).ino, lastUsed: Date.now() };
    } catch (error) {
      close(fd);
      // EINVAL: a namespace, but not of the network.
      throw errnoOf(error) === errno.EINVAL ? missing(error) : error;
    }
  }

  #keep(path: string, opened: OpenNamespace): OpenNamespace {
    const [oldest] = this.#pool.keys();
    if (this.#pool.size >= this.#poolSize && oldest !== undefined) this.#forget(oldest);
    this.#pool.set(path, opened);
    return opened;
  }

  #forget(path: string): void {
    const known = this.#pool.get(path);
    if (!known) return;
    this.#pool.delete(path);
    known.socket?.close();
    close(known.fd);
  }

  #inside<T>(fd: number, work: () => T): T {
    setns(fd);
    try {
      return work();
    } finally {
      this.#leave();
    }
  }

  #leave(): void {
    try {
      setns(this.#home.fd);
    } catch (error) {
      // A thread that cannot come home must not run anything more: it would change the wrong stack.
      console.error(`kernel worker lost its namespace: ${error instanceof Error ? error.message : String(error)}`);
      process.exit(70);
    }
  }
}

const inodeOf = (path: string): number | undefined => statSync(path, { throwIfNoEntry: false })?.ino;
