import { constants, mkdirSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { badRequest, shown } from "../errors.ts";
import { type Ip, tryParseIp } from "../net/ip.ts";
import { resolverAddress } from "./redirect.ts";

export interface HostsContent {
  readonly hostName: string;
  /** Without it, the host name stands alone. */
  readonly domainName?: string;
  /** The sandbox's own addresses. */
  readonly addresses: readonly Ip[];
  /** Further names of the own addresses. */
  readonly names?: readonly string[];
  readonly extraHosts: readonly { readonly name: string; readonly address: Ip }[];
}

const standardHosts = [
  "127.0.0.1\tlocalhost",
  "::1\tlocalhost ip6-localhost ip6-loopback",
  "fe00::0\tip6-localnet",
  "ff00::0\tip6-mcastprefix",
  "ff02::1\tip6-allnodes",
  "ff02::2\tip6-allrouters",
];

/** A word of a file: a value with white space in it would become two, or a line of its own. */
const isWord = (text: string): boolean => text !== "" && !/[\s\0#]/.test(text);

/** `/etc/hosts` of a sandbox. Names that are no single word are left out. */
export const hostsFile = (content: HostsContent): string => {
  const { hostName, domainName = "", addresses, names = [], extraHosts } = content;
  const full = domainName === "" || hostName === "" ? hostName : `${hostName}.${domainName}`;
  const own = [...new Set([full, hostName, ...names])].filter(isWord);
  const lines = [...standardHosts];
  for (const { name, address } of extraHosts) if (isWord(name)) lines.push(`${address}\t${name}`);
  if (own.length > 0) for (const address of addresses) lines.push(`${address}\t${own.join(" ")}`);
  return `${lines.join("\n")}\n`;
};

export interface ResolvConf {
  readonly nameservers: readonly Ip[];
  readonly search: readonly string[];
  readonly options: readonly string[];
}

export interface ResolvConfContent {
  /** Search domains; none by default. */
  readonly search?: readonly string[];
  /** The user's options; an `ndots` among them takes the place of ours. */
  readonly options?: readonly string[];
  /** 127.0.0.11 by default. */
  readonly nameserver?: string;
}

/** `/etc/resolv.conf` of a sandbox. Words with white space in them are left out. */
export const resolvConf = (content: ResolvConfContent = {}): string => {
  const search = (content.search ?? []).filter(isWord);
  const own = (content.options ?? []).filter(isWord);
  // Single labels are container names: without ndots:0 the stub resolver tries the search domains first.
  const options = own.some((option) => option.startsWith("ndots:")) ? own : ["ndots:0", ...own];
  return [
    ...(search.length > 0 ? [`search ${search.join(" ")}`] : []),
    `nameserver ${content.nameserver ?? resolverAddress}`,
    `options ${options.join(" ")}`,
    "",
  ].join("\n");
};

/** Characters of a resolv.conf that are read; the rest is ignored. */
export const maxResolvConf = 65_536;

/** Reads a resolv.conf as resolvers do: unknown lines and bad addresses are passed over, the last `search` counts. */
export const parseResolvConf = (text: string): ResolvConf => {
  const nameservers: Ip[] = [];
  let search: string[] = [];
  const options: string[] = [];
  for (const line of text.slice(0, maxResolvConf).split("\n")) {
    const [keyword, ...words] = line
      .replace(/[#;].*$/, "")
      .trim()
      .split(/\s+/);
    if (keyword === "nameserver") {
      const ip = tryParseIp(words[0] ?? "");
      if (ip !== undefined && !nameservers.includes(ip)) nameservers.push(ip);
    } else if (keyword === "search" || keyword === "domain") search = keyword === "search" ? words : words.slice(0, 1);
    else if (keyword === "options") options.push(...words);
  }
  return { nameservers, search, options };
};

/**
 * Writes a file in its place, mode 0644: the inode stays, because a container may have it bind-mounted. A reader sees
 * the old text, the new one, or the new one followed by the rest of a longer old one; never an empty file.
 * @throws the error of the file system; a symbolic link is refused (`ELOOP`), a device or pipe too (`not-a-file`, or `ENXIO`)
 */
export const writeInPlace = async (path: string, text: string): Promise<void> => {
  const bytes = Buffer.from(text);
  // To open a pipe that nobody reads would wait for a reader, in one of the few threads that all file work shares.
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  await using file = await open(path, flags, 0o644);
  const found = await file.stat();
  if (!found.isFile()) throw badRequest("not-a-file", `${shown(path)} is not a regular file`);
  let written = 0;
  while (written < bytes.length) {
    written += (await file.write(bytes, written, bytes.length - written, written)).bytesWritten;
  }
  // Each is a round trip to another thread: only where it changes something.
  if (found.size > bytes.length) await file.truncate(bytes.length);
  if ((found.mode & 0o7777) !== 0o644) await file.chmod(0o644);
};

/** What is done to the files of sandboxes. */
export interface SandboxFiles {
  /** Makes a directory, with those above it; one that is there stays. */
  makeDirectory(path: string): Promise<void>;
  /** As `writeInPlace`. */
  write(path: string, text: string): Promise<void>;
  /** Removes a directory with all that is in it; one that is not there is no error. */
  remove(path: string): Promise<void>;
}

export const sandboxFiles: SandboxFiles = {
  makeDirectory: async (path) => void mkdirSync(path, { recursive: true, mode: 0o755 }),
  write: writeInPlace,
  // At once: as work of libuv's threads, a directory of two files is ten round trips.
  remove: async (path) => rmSync(path, { recursive: true, force: true }),
};
