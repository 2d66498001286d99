import {
  attachFilter,
  bind,
  close,
  recv,
  SO,
  SOCK,
  SOL_SOCKET,
  send,
  setsockopt,
  signalWhenReadable,
  socket,
} from "./libc.ts";
import { lossesOnly } from "./link-loss-filter.ts";
import { AF } from "./netlink/constants.ts";
import { decodeMessages, parseAck } from "./netlink/message.ts";
import { NetlinkError } from "./netlink/netlink-error.ts";
import { encodeHold, groupNftables, isAcknowledgement, NETLINK_NETFILTER } from "./netlink/nftables.ts";

/** Netlink sockets of the namespace in which the calling thread is that tell of changes, or last; descriptors for whoever closes them. */

/** struct sockaddr_nl */
const address = (groups: number): Buffer => {
  const bytes = Buffer.alloc(12);
  bytes.writeUInt16LE(AF.NETLINK, 0);
  bytes.writeUInt32LE(groups, 8);
  return bytes;
};

/** What can be watched, as netlink families and the bits of their multicast groups (rtnetlink.h: RTMGRP_*). */
const topics = {
  ruleset: { family: NETLINK_NETFILTER, groups: groupNftables },
  routes: { family: 0, groups: 0x40 | 0x400 },
  links: { family: 0, groups: 0x1 | 0x10 | 0x100, filter: lossesOnly },
} as const satisfies Record<string, { readonly family: number; readonly groups: number; readonly filter?: Buffer }>;
export type Topic = keyof typeof topics;

/** Bytes of notifications that may wait: thousands of elements of a set in one batch are told one after the other. */
const room = 4 << 20;

/** A socket that gets a notification of every change; SIGIO says when to read it. */
export const openNotifications = (topic: Topic): number => {
  const { family, groups, filter }: { family: number; groups: number; filter?: Buffer } = topics[topic];
  const fd = socket(AF.NETLINK, SOCK.RAW, family);
  try {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32LE(room);
    setsockopt(fd, SOL_SOCKET, SO.RCVBUFFORCE, bytes);
    if (filter) attachFilter(fd, filter);
    bind(fd, address(groups));
    signalWhenReadable(fd);
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
};

/** Makes the table of `encodeHold`; it stays until the descriptor is closed. @throws NetlinkError where the kernel knows no owners */
export const holdConnections = (table: string): number => {
  const fd = socket(AF.NETLINK, SOCK.RAW, NETLINK_NETFILTER);
  try {
    // struct timeval, 10 s
    const deadline = Buffer.alloc(16);
    deadline.writeBigInt64LE(10n, 0);
    setsockopt(fd, SOL_SOCKET, SO.RCVTIMEO, deadline);
    bind(fd, address(0));
    const { bytes, acknowledgements } = encodeHold(table);
    send(fd, bytes);
    const buffer = Buffer.alloc(16 * 1024);
    for (let waiting = acknowledgements; waiting > 0; ) {
      for (const message of decodeMessages(buffer.subarray(0, recv(fd, buffer)))) {
        if (!isAcknowledgement(message)) continue;
        const { errno, text } = parseAck(message);
        if (errno !== 0) throw new NetlinkError(errno, text);
        waiting--;
      }
    }
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
};
