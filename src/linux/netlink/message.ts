import { internal, type NetworkError } from "../../errors.ts";
import { flag, nlmsg } from "./constants.ts";

/** Netlink framing (RFC 3549 2.3.2, include/uapi/linux/netlink.h): bytes in, objects out. */

export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly body: Buffer;
}

const headerLength = 16;
export const align = (length: number): number => (length + 3) & ~3;

export const malformed = (what: string): NetworkError =>
  internal("malformed-netlink", `malformed netlink message: ${what}`);

export const encodeMessage = (message: NetlinkMessage): Buffer => {
  const bytes = Buffer.alloc(align(headerLength + message.body.length));
  bytes.writeUInt32LE(headerLength + message.body.length, 0);
  bytes.writeUInt16LE(message.type, 4);
  bytes.writeUInt16LE(message.flags, 6);
  bytes.writeUInt32LE(message.sequence, 8);
  message.body.copy(bytes, headerLength);
  return bytes;
};

/** @throws NetworkError `malformed-netlink` where a length does not fit */
export const decodeMessages = (bytes: Buffer): readonly NetlinkMessage[] => {
  const messages: NetlinkMessage[] = [];
  for (let offset = 0; offset < bytes.length; ) {
    if (bytes.length - offset < headerLength) throw malformed("short header");
    const length = bytes.readUInt32LE(offset);
    if (length < headerLength || offset + length > bytes.length) throw malformed(`length ${length}`);
    messages.push({
      type: bytes.readUInt16LE(offset + 4),
      flags: bytes.readUInt16LE(offset + 6),
      sequence: bytes.readUInt32LE(offset + 8),
      body: bytes.subarray(offset + headerLength, offset + length),
    });
    offset += align(length);
  }
  return messages;
};

export interface Ack {
  /** 0 for success, else a positive errno. */
  readonly errno: number;
  /** The kernel's extended text, where it gave one. */
  readonly text?: string;
}

/** NLMSGERR_ATTR_MSG of netlink.h. */
const attributeText = 1;

/** Reads an NLMSG_ERROR or NLMSG_DONE with its extended attributes. @throws NetworkError `malformed-netlink` */
export const parseAck = (message: NetlinkMessage): Ack => {
  if (message.body.length < 4) throw malformed("short acknowledgement");
  const errno = -message.body.readInt32LE(0);
  if ((message.flags & flag.ACK_TLVS) === 0) return { errno };
  let offset = 4;
  if (message.type === nlmsg.ERROR) {
    if (message.body.length < 4 + headerLength) return { errno };
    // The request's header follows, and its body too unless it is capped.
    offset += (message.flags & flag.CAPPED) !== 0 ? headerLength : align(message.body.readUInt32LE(4));
  }
  for (const { type, value } of decodeAttributes(message.body.subarray(Math.min(offset, message.body.length)))) {
    if (type === attributeText) return { errno, text: cString(value) };
  }
  return { errno };
};

/** A type-length-value attribute. */
export interface Attribute {
  readonly type: number;
  readonly value: Buffer;
  /** Said to hold attributes itself; the kernel does not say it of all that do. */
  readonly nested?: true;
}

/** @throws NetworkError `malformed-netlink` */
export const decodeAttributes = (bytes: Buffer): readonly Attribute[] => {
  const attributes: Attribute[] = [];
  for (let offset = 0; offset + 4 <= bytes.length; ) {
    const length = bytes.readUInt16LE(offset);
    if (length < 4 || offset + length > bytes.length) throw malformed(`attribute of length ${length}`);
    // The top bits say "nested" and "network byte order".
    const type = bytes.readUInt16LE(offset + 2);
    const value = bytes.subarray(offset + 4, offset + length);
    attributes.push(
      (type & 0x8000) === 0 ? { type: type & 0x3fff, value } : { type: type & 0x3fff, value, nested: true },
    );
    offset += align(length);
  }
  return attributes;
};

/** Attributes by type; of repeated ones the last. @throws NetworkError `malformed-netlink` */
export const attributeMap = (bytes: Buffer): ReadonlyMap<number, Buffer> => {
  const map = new Map<number, Buffer>();
  for (const { type, value } of decodeAttributes(bytes)) map.set(type, value);
  return map;
};

export const attribute = (type: number, value: Buffer): Buffer => {
  const bytes = Buffer.alloc(align(4 + value.length));
  bytes.writeUInt16LE(4 + value.length, 0);
  bytes.writeUInt16LE(type, 2);
  value.copy(bytes, 4);
  return bytes;
};

export const attributeU8 = (type: number, value: number): Buffer => attribute(type, Buffer.from([value]));
export const attributeU16 = (type: number, value: number): Buffer => {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return attribute(type, bytes);
};
export const attributeU16be = (type: number, value: number): Buffer => {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return attribute(type, bytes);
};
export const attributeU32 = (type: number, value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return attribute(type, bytes);
};
export const attributeText0 = (type: number, text: string): Buffer => attribute(type, Buffer.from(`${text}\0`));
/** NLA_F_NESTED of netlink.h. */
export const nest = (type: number, ...children: readonly Buffer[]): Buffer =>
  attribute(type | 0x8000, Buffer.concat(children));

/**
 * True where what the kernel shows has every attribute that was asked for, with the same value and as often, in the same order;
 * it may show more. What is nested is compared in the same way.
 * @throws NetworkError `malformed-netlink`
 */
export const covers = (shown: Buffer, asked: Buffer): boolean => {
  const found = Map.groupBy(decodeAttributes(shown), ({ type }) => type);
  return [...Map.groupBy(decodeAttributes(asked), ({ type }) => type)].every(([type, wanted]) => {
    const same = found.get(type) ?? [];
    return (
      same.length === wanted.length &&
      wanted.every(({ value, nested }, n) => {
        const other = same[n]?.value ?? Buffer.alloc(0);
        return nested ? covers(other, value) : other.equals(value);
      })
    );
  });
};

/** Text up to its first NUL. */
export const cString = (value: Buffer): string => {
  const end = value.indexOf(0);
  return value.subarray(0, end < 0 ? value.length : end).toString("utf8");
};
