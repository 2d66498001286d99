import { familyOf, type Ip, ipFromBytes, ipToBytes } from "../../net/ip.ts";
import { type Mac, macFromBytes, macToBytes } from "../../net/mac.ts";
import { addressFamily } from "./address.ts";
import { AF, NTF_MASTER, NTF_SELF, NUD_NOARP, NUD_PERMANENT, NUD_REACHABLE, nda } from "./constants.ts";
import { attribute, attributeMap, malformed } from "./message.ts";

/** struct ndmsg of neighbour.h, 12 bytes. */
export const neighborHeader = (family: number, index: number, state: number, flags: number): Buffer => {
  const header = Buffer.alloc(12);
  header.writeUInt8(family, 0);
  header.writeInt32LE(index, 4);
  header.writeUInt16LE(state, 8);
  header.writeUInt8(flags, 10);
  return header;
};

/** Body of an RTM_NEWNEIGH or RTM_DELNEIGH of the ARP or neighbour discovery table: a permanent entry. */
export const encodeNeighbor = (index: number, ip: Ip, mac: Mac): Buffer =>
  Buffer.concat([
    neighborHeader(addressFamily(familyOf(ip)), index, NUD_PERMANENT, 0),
    attribute(nda.DST, ipToBytes(ip)),
    attribute(nda.LLADDR, macToBytes(mac)),
  ]);

/** Body of an RTM_NEWNEIGH or RTM_DELNEIGH of the forwarding table of the bridge whose port the link is: `master static`. */
export const encodeBridgeFdb = (index: number, mac: Mac): Buffer =>
  Buffer.concat([
    neighborHeader(AF.BRIDGE, index, NUD_REACHABLE | NUD_NOARP, NTF_MASTER),
    attribute(nda.LLADDR, macToBytes(mac)),
  ]);

/** Body of an RTM_NEWNEIGH or RTM_DELNEIGH of a VXLAN device's forwarding table: `self permanent`, as `bridge fdb` shows it. */
export const encodeFdb = (index: number, mac: Mac, destination: Ip): Buffer =>
  Buffer.concat([
    neighborHeader(AF.BRIDGE, index, NUD_PERMANENT | NUD_NOARP, NTF_SELF),
    attribute(nda.LLADDR, macToBytes(mac)),
    attribute(nda.DST, ipToBytes(destination)),
  ]);

export interface DecodedNeighbor {
  readonly index: number;
  /** A forwarding entry of a bridge or VXLAN device; else one of the ARP or neighbour discovery table. */
  readonly fdb: boolean;
  readonly ip?: Ip;
  readonly mac?: Mac;
  readonly permanent: boolean;
  /** Seconds since a packet went by it, where the kernel says so. */
  readonly idle?: number;
}

/** Ticks of the clock that user space sees (USER_HZ) in a second. */
const ticks = 100;

/** Body of an RTM_NEWNEIGH from the kernel, a miss notification included. @throws NetworkError `malformed-netlink` */
export const decodeNeighbor = (body: Buffer): DecodedNeighbor => {
  if (body.length < 12) throw malformed("short neighbour");
  const attributes = attributeMap(body.subarray(12));
  const ip = attributes.get(nda.DST);
  const mac = attributes.get(nda.LLADDR);
  const cache = attributes.get(nda.CACHEINFO);
  return {
    index: body.readInt32LE(4),
    fdb: body.readUInt8(0) === AF.BRIDGE,
    ...(ip && (ip.length === 4 || ip.length === 16) && { ip: ipFromBytes(ip) }),
    ...(mac?.length === 6 && { mac: macFromBytes(mac) }),
    permanent: (body.readUInt16LE(8) & NUD_PERMANENT) !== 0,
    // struct nda_cacheinfo: confirmed, used, updated, references.
    ...(cache && cache.length >= 8 && { idle: cache.readUInt32LE(4) / ticks }),
  };
};
