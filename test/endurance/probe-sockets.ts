import { readFileSync } from "node:fs";
import koffi from "koffi";
import { close, SO, SOCK, SOL_SOCKET, setsockopt, socket } from "../../src/linux/libc.ts";
import type { Namespaces } from "../../src/linux/namespaces.ts";
import { AF } from "../../src/linux/netlink/constants.ts";
import { openSockets, socketAddress } from "../../src/linux/sockets.ts";
import { parseIp } from "../../src/net/ip.ts";

/** Sockets of one process in many namespaces. All of it is synchronous: see `Namespaces.enter`. */

const connectTo = koffi.load(null).func("int connect(int fd, void *address, uint32_t length)");
const every = parseIp("0.0.0.0");

/** Bytes: what comes while this process waits for its turn must be there when it reads. */
const received = Buffer.alloc(4);
received.writeInt32LE(16 * 1024 * 1024);

/** A bound socket in a namespace. */
export const open = (namespaces: Namespaces, place: string, protocol: "udp" | "tcp", port: number): number => {
  const fd = namespaces.enter(place, () => openSockets([{ protocol, address: every, port }]))[0]?.fd ?? -1;
  if (protocol === "udp") setsockopt(fd, SOL_SOCKET, SO.RCVBUFFORCE, received);
  return fd;
};

/** A TCP connection made in a namespace, established when this returns. */
export const connect = (namespaces: Namespaces, place: string, address: string, port: number): number =>
  namespaces.enter(place, () => {
    const fd = socket(AF.INET, SOCK.STREAM, 0);
    const to = socketAddress(parseIp(address), port);
    if (connectTo(fd, to, to.length) === 0) return fd;
    const errno = koffi.errno();
    close(fd);
    throw new Error(`connect ${address}:${port} from ${place}: errno ${errno}`);
  });

/**
 * A counter of a namespace since it was made: `Tcp RetransSegs` of segments that were sent again, each a packet lost or late;
 * `Udp RcvbufErrors` of datagrams that came to a program too slow to read them.
 */
export const counter = (namespaces: Namespaces, place: string, protocol: "Tcp" | "Udp", name: string): number =>
  namespaces.enter(place, () => {
    const [names = "", values = ""] = readFileSync("/proc/thread-self/net/snmp", "utf8")
      .split("\n")
      .filter((line) => line.startsWith(`${protocol}:`));
    return Number(values.split(" ")[names.split(" ").indexOf(name)]);
  });
