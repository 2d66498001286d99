import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import type { Ip } from "../net/ip.ts";
import { maxResolvConf, parseResolvConf } from "./files.ts";
import { resolverAddress } from "./redirect.ts";

/** A DNS server that queries are forwarded to. */
export interface Upstream {
  readonly address: Ip;
  /** 53 by default. */
  readonly port?: number;
}

export interface HostUpstreamsOptions {
  /** `/etc/resolv.conf` by default. */
  readonly path?: string;
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number;
}

/** The host's own resolver configuration. */
export interface HostResolvConf {
  readonly text: string;
  readonly search: readonly string[];
}

const checkEvery = 1000;

/** The servers of a resolv.conf, without our own resolvers' address: a query would come back to where it started. */
export const upstreamsOf = (text: string): readonly Upstream[] =>
  parseResolvConf(text)
    .nameservers.filter((address) => address !== resolverAddress)
    .map((address) => ({ address }));

/** The host's resolvers, read again when the file changes; looked at once per second at most, and only on use. */
export class HostUpstreams {
  readonly #path: string;
  readonly #now: () => number;
  #checked = Number.NEGATIVE_INFINITY;
  #version = "";
  #upstreams: readonly Upstream[] = [];
  #file: HostResolvConf = { text: "", search: [] };

  constructor(options: HostUpstreamsOptions = {}) {
    this.#path = options.path ?? "/etc/resolv.conf";
    this.#now = options.now ?? (() => performance.now());
  }

  /** The resolvers in the file's order; those last read where the file cannot be read now. */
  current(): readonly Upstream[] {
    const now = this.#now();
    if (now - this.#checked >= checkEvery) {
      this.#checked = now;
      this.#read();
    }
    return this.#upstreams;
  }

  /** The file as it is now; as it was last read where it cannot be read. */
  file(): HostResolvConf {
    this.#read();
    return this.#file;
  }

  #read(): void {
    let fd: number;
    try {
      fd = openSync(this.#path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch {
      return;
    }
    try {
      const stat = fstatSync(fd, { bigint: true });
      const version = `${stat.dev}:${stat.ino}:${stat.mtimeNs}:${stat.size}`;
      if (version === this.#version || !stat.isFile()) return;
      const bytes = Buffer.alloc(maxResolvConf);
      const text = bytes.toString("utf8", 0, readSync(fd, bytes));
      this.#file = { text, search: parseResolvConf(text).search };
      this.#upstreams = upstreamsOf(text);
      this.#version = version;
    } catch {
      // What was read before is the best there is.
    } finally {
      closeSync(fd);
    }
  }
}
