import { familyOf, ipToBytes } from "../net/ip.ts";
import type { OpenedSocket, SocketRequest } from "./kernel.ts";
import { bind, close, getsockname, listen, SOCK, socket } from "./libc.ts";
import { addressFamily } from "./netlink/address.ts";

const backlog = 128;

/** struct sockaddr_in or sockaddr_in6 of netinet/in.h. */
const socketAddress = ({ address, port }: SocketRequest): Buffer => {
  const family = familyOf(address);
  const bytes = Buffer.alloc(family === 4 ? 16 : 28);
  bytes.writeUInt16LE(addressFamily(family), 0);
  bytes.writeUInt16BE(port, 2);
  ipToBytes(address).copy(bytes, family === 4 ? 4 : 8);
  return bytes;
};

const openSocket = (request: SocketRequest): OpenedSocket => {
  const family = addressFamily(familyOf(request.address));
  const type = request.protocol === "udp" ? SOCK.DGRAM : SOCK.STREAM;
  const fd = socket(family, type | SOCK.NONBLOCK, 0);
  try {
    bind(fd, socketAddress(request));
    if (request.protocol === "tcp") listen(fd, backlog);
    return { fd, port: getsockname(fd).readUInt16BE(2) };
  } catch (error) {
    close(fd);
    throw error;
  }
};

/** Opens sockets in the namespace in which the calling thread is: all, or none. @throws NetworkError `system-call` with errno */
export const openSockets = (requests: readonly SocketRequest[]): readonly OpenedSocket[] => {
  const opened: OpenedSocket[] = [];
  try {
    for (const request of requests) opened.push(openSocket(request));
    return opened;
  } catch (error) {
    for (const { fd } of opened) close(fd);
    throw error;
  }
};
