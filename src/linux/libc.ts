import koffi from "koffi";
import { internal, type NetworkError } from "../errors.ts";
import { NSFS_MAGIC } from "./nsfs.ts";

/**
 * The few system calls that Node has no function for; the only import of koffi. Every call is synchronous, on the thread
 * that makes it: `setns` and `unshare` move that thread alone.
 */

const libc = koffi.load(null);
const func = (prototype: string): ((...args: readonly any[]) => number) => libc.func(prototype);

const raw = {
  open: func("int open(const char *path, int flags, int mode)"),
  close: func("int close(int fd)"),
  setns: func("int setns(int fd, int nstype)"),
  unshare: func("int unshare(int flags)"),
  mount: func("int mount(const char *source, const char *target, const char *type, unsigned long flags, void *data)"),
  umount2: func("int umount2(const char *target, int flags)"),
  socket: func("int socket(int domain, int type, int protocol)"),
  bind: func("int bind(int fd, void *address, uint32_t length)"),
  listen: func("int listen(int fd, int backlog)"),
  getsockname: func("int getsockname(int fd, void *address, void *length)"),
  setsockopt: func("int setsockopt(int fd, int level, int name, void *value, uint32_t length)"),
  send: func("intptr_t send(int fd, void *bytes, uintptr_t length, int flags)"),
  recv: func("intptr_t recv(int fd, void *bytes, uintptr_t length, int flags)"),
  fstatfs: func("int fstatfs(int fd, void *result)"),
  fcntl: func("int fcntl(int fd, int command, int value)"),
};

/** Numbers of fcntl.h, sched.h, mount.h, socket.h. */
export const O = { RDONLY: 0, CREAT: 0o100, EXCL: 0o200, NOFOLLOW: 0o400000, CLOEXEC: 0o2000000 } as const;
export const CLONE_NEWNET = 0x40000000;
export const MS_BIND = 4096;
export const MNT_DETACH = 2;
export const SOCK = { STREAM: 1, DGRAM: 2, RAW: 3, NONBLOCK: 0o4000, CLOEXEC: 0o2000000 } as const;
export const SOL_SOCKET = 1;
export const SO = {
  REUSEADDR: 2,
  RCVBUF: 8,
  RCVTIMEO: 20,
  BINDTODEVICE: 25,
  ATTACH_FILTER: 26,
  RCVBUFFORCE: 33,
} as const;
/** in.h, in6.h */
export const IPPROTO = { IPV6: 41, SCTP: 132 } as const;
export const IPV6_V6ONLY = 26;

/** errno.h of Linux (asm-generic): names of what we expect. */
export const errno = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EAGAIN: 11,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  EMFILE: 24,
  ENOSPC: 28,
  EROFS: 30,
  EXFULL: 54,
  EPROTONOSUPPORT: 93,
  ESOCKTNOSUPPORT: 94,
  EOPNOTSUPP: 95,
  EAFNOSUPPORT: 97,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENETUNREACH: 101,
  ENOBUFS: 105,
  EHOSTUNREACH: 113,
} as const;

const texts: Readonly<Record<number, string>> = {
  1: "operation not permitted",
  2: "no such file or directory",
  3: "no such process",
  12: "cannot allocate memory",
  13: "permission denied",
  16: "device or resource busy",
  17: "file exists",
  19: "no such device",
  22: "invalid argument",
  23: "too many open files in system",
  24: "too many open files",
  28: "no space left on device",
  30: "read-only file system",
  34: "numerical result out of range",
  54: "exchange full",
  93: "protocol not supported",
  94: "socket type not supported",
  95: "operation not supported",
  97: "address family not supported",
  98: "address already in use",
  99: "cannot assign requested address",
  100: "network is down",
  101: "network is unreachable",
  105: "no buffer space available",
  110: "timed out",
};

/** The kernel's words for an errno, as strerror(3) has them. */
export const errnoText = (number: number): string => texts[number] ?? `error ${number}`;

const failure = (call: string, number: number): NetworkError =>
  internal("system-call", `${call}: ${errnoText(number)}`, {
    errno: number,
    ...(number === errno.EPERM && { hint: "this needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN)" }),
  });

/** Runs a call, again when a signal interrupted it. @throws NetworkError `system-call` with errno */
const checked = (call: string, run: () => number): number => {
  for (;;) {
    const result = Number(run());
    if (result >= 0) return result;
    const number = koffi.errno();
    if (number !== errno.EINTR) throw failure(call, number);
  }
};

export const open = (path: string, flags: number, mode = 0): number =>
  checked(`open ${path}`, () => raw.open(path, flags | O.CLOEXEC, mode));

/** Never repeated after EINTR: on Linux the descriptor is gone then. */
export const close = (fd: number): void => {
  raw.close(fd);
};
export const setns = (fd: number): void => void checked("setns", () => raw.setns(fd, CLONE_NEWNET));
export const unshareNetwork = (): void => void checked("unshare", () => raw.unshare(CLONE_NEWNET));
export const bindMount = (source: string, target: string): void =>
  void checked(`mount --bind ${source} ${target}`, () => raw.mount(source, target, null, MS_BIND, null));
export const detachMount = (target: string): void =>
  void checked(`umount ${target}`, () => raw.umount2(target, MNT_DETACH));
export const socket = (domain: number, type: number, protocol: number): number =>
  checked("socket", () => raw.socket(domain, type | SOCK.CLOEXEC, protocol));
export const bind = (fd: number, address: Buffer): void =>
  void checked("bind", () => raw.bind(fd, address, address.length));
export const listen = (fd: number, backlog: number): void => void checked("listen", () => raw.listen(fd, backlog));
export const setsockopt = (fd: number, level: number, name: number, value: Buffer): void =>
  void checked("setsockopt", () => raw.setsockopt(fd, level, name, value, value.length));
export const send = (fd: number, bytes: Buffer): number => checked("send", () => raw.send(fd, bytes, bytes.length, 0));
/** @returns the number of bytes received */
export const recv = (fd: number, into: Buffer): number => checked("recv", () => raw.recv(fd, into, into.length, 0));

/** Has this process sent SIGIO whenever the descriptor becomes readable; reads do not wait (fcntl.h: F_SETOWN, F_SETFL, O_ASYNC). */
export const signalWhenReadable = (fd: number): void => {
  checked("fcntl", () => raw.fcntl(fd, 8, process.pid));
  checked("fcntl", () => raw.fcntl(fd, 4, SOCK.NONBLOCK | 0o20000));
};

/** Lets a socket take only what a classic BPF program passes: instructions of 8 bytes (struct sock_filter of linux/filter.h). */
export const attachFilter = (fd: number, program: Buffer): void => {
  // struct sock_fprog: the number of instructions and their address, which the kernel reads during the call only.
  const header = Buffer.alloc(16);
  header.writeUInt16LE(program.length / 8, 0);
  header.writeBigUInt64LE(koffi.address(program), 8);
  setsockopt(fd, SOL_SOCKET, SO.ATTACH_FILTER, header);
};

/** The local address of a socket: a struct sockaddr. */
export const getsockname = (fd: number): Buffer => {
  const address = Buffer.alloc(128);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(address.length);
  checked("getsockname", () => raw.getsockname(fd, address, length));
  return address.subarray(0, length.readUInt32LE());
};

/** glibc's malloc_trim(3); another libc may have none. */
const trim = (() => {
  try {
    return func("int malloc_trim(uintptr_t pad)");
  } catch {
    return undefined;
  }
})();

/** Gives memory back to the kernel that malloc keeps in holes of its heap. */
export const trimMemory = (): void => {
  trim?.(0);
};

/** True where the descriptor is of a namespace file and not of a plain one. */
export const isNamespaceFile = (fd: number): boolean => {
  // struct statfs begins with f_type, a long; 256 bytes hold it on every architecture.
  const result = Buffer.alloc(256);
  checked("fstatfs", () => raw.fstatfs(fd, result));
  return result.readUInt32LE() === NSFS_MAGIC;
};
