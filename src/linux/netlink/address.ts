import { type Family, type Ip, ipFromBigInt, ipFromBytes, ipToBytes } from "../../net/ip.ts";
import {
  addressOf,
  type InterfaceAddress,
  lengthOf,
  prefixFamily,
  prefixOf,
  prefixRange,
  withLength,
} from "../../net/prefix.ts";
import { AF, IFA_F_NODAD, ifa } from "./constants.ts";
import { attribute, attributeMap, malformed } from "./message.ts";

export const addressFamily = (family: Family): number => (family === 4 ? AF.INET : AF.INET6);

/** The broadcast address of an IPv4 network; a /31 or /32 has none (RFC 3021). */
const broadcast = (address: InterfaceAddress): Ip | undefined =>
  prefixFamily(address) === 4 && lengthOf(address) < 31
    ? ipFromBigInt(prefixRange(prefixOf(address)).last, 4)
    : undefined;

export interface AddressOptions {
  /** IPv6: usable at once, without duplicate address detection. */
  readonly nodad?: boolean;
  /** IPv4: with the broadcast address of its network; a deletion names none. */
  readonly broadcast?: boolean;
}

/** Body of an RTM_NEWADDR or RTM_DELADDR: struct ifaddrmsg of if_addr.h and its attributes. */
export const encodeAddress = (index: number, address: InterfaceAddress, options: AddressOptions = {}): Buffer => {
  const header = Buffer.alloc(8);
  header.writeUInt8(addressFamily(prefixFamily(address)), 0);
  header.writeUInt8(lengthOf(address), 1);
  if (options.nodad && prefixFamily(address) === 6) header.writeUInt8(IFA_F_NODAD, 2);
  header.writeUInt32LE(index, 4);
  const bytes = ipToBytes(addressOf(address));
  const last = options.broadcast ? broadcast(address) : undefined;
  return Buffer.concat([
    header,
    attribute(ifa.LOCAL, bytes),
    attribute(ifa.ADDRESS, bytes),
    ...(last === undefined ? [] : [attribute(ifa.BROADCAST, ipToBytes(last))]),
  ]);
};

export interface DecodedAddress {
  readonly index: number;
  readonly address: InterfaceAddress;
  /** Duplicate address detection is off. */
  readonly nodad: boolean;
}

/** Body of an RTM_NEWADDR from the kernel. @throws NetworkError `malformed-netlink` */
export const decodeAddress = (body: Buffer): DecodedAddress => {
  if (body.length < 8) throw malformed("short address");
  const attributes = attributeMap(body.subarray(8));
  // On a point-to-point link ADDRESS is the other end's; LOCAL is ours where it is given.
  const bytes = attributes.get(ifa.LOCAL) ?? attributes.get(ifa.ADDRESS);
  if (bytes?.length !== 4 && bytes?.length !== 16) throw malformed("address without an address");
  const flags = attributes.get(ifa.FLAGS);
  return {
    index: body.readUInt32LE(4),
    address: withLength(ipFromBytes(bytes), body.readUInt8(1)),
    // The header has room for eight flags; the attribute, where the kernel sends it, has them all.
    nodad: ((flags && flags.length >= 4 ? flags.readUInt32LE() : body.readUInt8(2)) & IFA_F_NODAD) !== 0,
  };
};
