import { bpf, instruction, swapped } from "./bpf.ts";
import { attachFilter, bind, close, SO, SOCK, SOL_SOCKET, setsockopt, signalWhenReadable, socket } from "./libc.ts";
import { AF, rtm } from "./netlink/constants.ts";

const NETLINK_ROUTE = 0;
/** rtnetlink.h: groups are numbered from 1, the address has a bit for each. */
const RTNLGRP_NEIGH = 3;
const bufferSize = 1024 * 1024;

/**
 * Lets only misses through, which are the group's only messages of type RTM_GETNEIGH: the thousands of entries that we make
 * ourselves wake nobody. The type is at offset 4.
 */
const missesOnly = Buffer.concat([
  instruction(bpf.loadHalf, 0, 0, 4),
  instruction(bpf.jumpEqual, 0, 1, swapped(rtm.GETNEIGH)),
  instruction(bpf.keep, 0, 0, 0xffff_ffff),
  instruction(bpf.keep, 0, 0, 0),
]);

/** Opens a socket that hears of misses in the namespace in which the calling thread is, and signals. @throws NetworkError `system-call` */
export const openMissSocket = (): number => {
  const fd = socket(AF.NETLINK, SOCK.RAW, NETLINK_ROUTE);
  try {
    attachFilter(fd, missesOnly);
    const size = Buffer.alloc(4);
    size.writeUInt32LE(bufferSize);
    setsockopt(fd, SOL_SOCKET, SO.RCVBUFFORCE, size);
    // struct sockaddr_nl: family, padding, port (the kernel's choice), groups.
    const address = Buffer.alloc(12);
    address.writeUInt16LE(AF.NETLINK, 0);
    address.writeUInt32LE(1 << (RTNLGRP_NEIGH - 1), 8);
    bind(fd, address);
    signalWhenReadable(fd);
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
};
