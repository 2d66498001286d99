import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { basename } from "node:path";

/** Lines of a socket table and processes that are looked at: this only makes an error better. */
const bound = 50_000;

/** Inodes of sockets bound to a port, from a table of /proc/net (proc(5)): `sl local_address rem_address st ... inode`. */
export const socketInodes = (table: string, port: number, listening: boolean): readonly string[] => {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return table
    .split("\n", bound)
    .map((line) => line.trim().split(/\s+/))
    .filter(([, local = "", , state]) => local.endsWith(suffix) && (!listening || state === "0A"))
    .map((fields) => fields[9] ?? "")
    .filter((inode) => /^[1-9]\d*$/.test(inode));
};

const read = (path: string): string => {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
};

const entries = (path: string): readonly string[] => {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
};

const has = (pid: string, sockets: ReadonlySet<string>): boolean =>
  entries(`/proc/${pid}/fd`).some((fd) => {
    try {
      return sockets.has(readlinkSync(`/proc/${pid}/fd/${fd}`));
    } catch {
      return false;
    }
  });

/** The program that is bound to a port of the host, as `nginx (process 123)`; undefined where that cannot be told. */
export const portOwner = (protocol: "tcp" | "udp" | "sctp", port: number): string | undefined => {
  if (protocol === "sctp") return undefined;
  // Of the calling thread: its network namespace is the host's.
  const tables = [protocol, `${protocol}6`].map((name) => read(`/proc/thread-self/net/${name}`));
  const inodes = tables.flatMap((table) => socketInodes(table, port, protocol === "tcp"));
  const sockets = new Set(inodes.map((inode) => `socket:[${inode}]`));
  if (sockets.size === 0) return undefined;
  const pid = entries("/proc")
    .filter((name) => /^\d+$/.test(name))
    .slice(0, bound)
    .find((name) => has(name, sockets));
  return pid === undefined ? undefined : `${programName(pid)} (process ${pid})`;
};

/** The file that runs, as `/proc/PID/comm` is what its main thread calls itself. Anything may be in either. */
const programName = (pid: string): string => {
  let name: string;
  try {
    name = basename(readlinkSync(`/proc/${pid}/exe`).replace(/ \(deleted\)$/, ""));
  } catch {
    name = read(`/proc/${pid}/comm`).trim();
  }
  return name.slice(0, 64).replace(/[^\x20-\x7e]/g, "?");
};
