import { NetworkError } from "../errors.ts";
import { familyOf, type Ip, ipToBytes } from "../net/ip.ts";
import { explainHeldPort } from "./held-port-error.ts";
import type { OpenedSocket, SocketRequest } from "./kernel.ts";
import {
  bind,
  close,
  errno,
  getsockname,
  IPPROTO,
  IPV6_V6ONLY,
  listen,
  SO,
  SOCK,
  SOL_SOCKET,
  setsockopt,
  socket,
} from "./libc.ts";
import { addressFamily } from "./netlink/address.ts";
import type { ShownRedirect } from "./netlink/redirect.ts";
import { isRedirect, shownRedirect } from "./redirect-rules.ts";

const backlog = 128;

/** C ints, and the name of the loopback device. */
const off = Buffer.from([0, 0, 0, 0]);
const on = Buffer.from([1, 0, 0, 0]);
const loopback = Buffer.from("lo\0");

/** struct sockaddr_in or sockaddr_in6 of netinet/in.h. */
export const socketAddress = (address: Ip, port: number): Buffer => {
  const family = familyOf(address);
  const bytes = Buffer.alloc(family === 4 ? 16 : 28);
  bytes.writeUInt16LE(addressFamily(family), 0);
  bytes.writeUInt16BE(port, 2);
  ipToBytes(address).copy(bytes, family === 4 ? 4 : 8);
  return bytes;
};

const makeSocket = ({ protocol, address }: SocketRequest): number => {
  const type = protocol === "udp" ? SOCK.DGRAM : SOCK.STREAM;
  return socket(addressFamily(familyOf(address)), type | SOCK.NONBLOCK, protocol === "sctp" ? IPPROTO.SCTP : 0);
};

/** In the place of an earlier one: its port may have been taken by another program meanwhile. */
const openAgain = (request: SocketRequest, port: number): OpenedSocket => {
  try {
    return openSocket({ ...request, port });
  } catch (error) {
    if (!taken(error)) throw error;
    return openSocket(request);
  }
};

const openSocket = (request: SocketRequest): OpenedSocket => {
  const fd = makeSocket(request);
  try {
    bindAlone(fd, request, request.port);
    if (request.protocol === "tcp") listen(fd, backlog);
    return { fd, port: getsockname(fd).readUInt16BE(2) };
  } catch (error) {
    close(fd);
    throw error;
  }
};

const taken = (error: unknown): boolean => error instanceof NetworkError && error.errno === errno.EADDRINUSE;

/**
 * Binds without SO_REUSEADDR: with it, two UDP sockets may have one port. TCP is given a second try with it, as connections
 * of an earlier life may wait for their end (TIME_WAIT); a socket that listens stays an obstacle.
 */
const bindAlone = (fd: number, request: SocketRequest, port: number): void => {
  const address = socketAddress(request.address, port);
  try {
    bind(fd, address);
  } catch (error) {
    if (!taken(error) || request.protocol !== "tcp" || port === 0) throw error;
    reuseAddress(fd, true);
    bind(fd, address);
  }
};

/** SO_REUSEADDR; connections that a listening socket accepts inherit it. */
export const reuseAddress = (fd: number, value: boolean): void =>
  setsockopt(fd, SOL_SOCKET, SO.REUSEADDR, value ? on : off);

const holdPort = (request: SocketRequest, port: number): OpenedSocket => {
  const { protocol, address, hold } = request;
  const fd = makeSocket(request);
  try {
    if (familyOf(address) === 6) setsockopt(fd, IPPROTO.IPV6, IPV6_V6ONLY, hold?.bothFamilies ? off : on);
    bindAlone(fd, request, port);
    // After the bind, so that the port is taken on every device; what comes from outside is for NAT alone (CVE-2021-20199).
    setsockopt(fd, SOL_SOCKET, SO.BINDTODEVICE, loopback);
    if (protocol === "tcp" && hold?.listen) {
      reuseAddress(fd, true);
      listen(fd, backlog);
    }
    return { fd, port: port === 0 ? getsockname(fd).readUInt16BE(2) : port, family: familyOf(address) };
  } catch (error) {
    close(fd);
    throw error;
  }
};

/** Ports to try: the one asked for, then the others of the range. */
const candidates = function* ({ port, hold }: SocketRequest): Generator<number> {
  yield port;
  const [first, last] = hold?.otherwise ?? [1, 0];
  for (let other = first; other <= last; other++) if (other !== port) yield other;
};

const holdFirst = (request: SocketRequest): OpenedSocket => {
  let refusal: unknown;
  for (const port of candidates(request)) {
    try {
      return holdPort(request, port);
    } catch (error) {
      if (!taken(error)) throw error;
      refusal = error;
    }
  }
  throw refusal;
};

/** What the redirect says that the sockets of a request are in the way of: read once. */
type Shown = (request: SocketRequest) => ShownRedirect | undefined;

const readOnce = (): Shown => {
  let shown: ShownRedirect | undefined;
  return ({ address, redirectedBy }) => {
    if (redirectedBy) shown ??= shownRedirect({ ...redirectedBy, address });
    return redirectedBy && shown;
  };
};

const openOrHold = (request: SocketRequest, shown: Shown): OpenedSocket => {
  const earlier = request.protocol === "sctp" ? undefined : shown(request)?.[request.protocol];
  if (earlier) return openAgain(request, earlier);
  if (!request.hold) return openSocket(request);
  try {
    return holdFirst(request);
  } catch (error) {
    const { bothFamilies, ...hold } = request.hold;
    if (error instanceof NetworkError && error.errno === errno.EAFNOSUPPORT && bothFamilies)
      return openOrHold({ ...request, address: "0.0.0.0" as Ip, hold }, shown);
    throw explainHeldPort(request, error);
  }
};

/** Opens sockets in the namespace in which the calling thread is: all, or none. @throws NetworkError `system-call` with errno */
export const openSockets = (requests: readonly SocketRequest[]): readonly OpenedSocket[] => {
  const opened: OpenedSocket[] = [];
  const shown = readOnce();
  try {
    for (const request of requests) opened.push(openOrHold(request, shown));
    const portOf = (protocol: "udp" | "tcp"): number =>
      opened[requests.findIndex((one) => one.redirectedBy && one.protocol === protocol)]?.port ?? 0;
    const ports = { udp: portOf("udp"), tcp: portOf("tcp") };
    return opened.map((socket, n) => {
      const redirect = requests[n] && shown(requests[n]);
      return redirect && isRedirect(redirect, ports) ? { ...socket, redirected: true } : socket;
    });
  } catch (error) {
    for (const { fd } of opened) close(fd);
    throw error;
  }
};
