import { netnsa, rtm } from "./constants.ts";
import { attributeMap, attributeU32 } from "./message.ts";
import type { NetlinkSocket } from "./socket.ts";

/** The number by which a namespace knows another one, given by a descriptor; undefined where it has none for it. */
export const namespaceId = (socket: NetlinkSocket, fd: number): number | undefined => {
  // struct rtgenmsg of rtnetlink.h, padded: the family alone.
  const body = Buffer.concat([Buffer.alloc(4), attributeU32(netnsa.FD, fd)]);
  const answer = socket.get({ type: rtm.GETNSID, body });
  if (!answer || answer.body.length < 4) return undefined;
  const id = attributeMap(answer.body.subarray(4)).get(netnsa.NSID);
  // NETNSA_NSID_NOT_ASSIGNED of net_namespace.h is -1.
  return id && id.length >= 4 && id.readInt32LE() >= 0 ? id.readInt32LE() : undefined;
};
