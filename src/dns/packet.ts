/**
 * The wire format, as far as a resolver of names and addresses needs it (RFC 1035 4, RFC 6891), read and written by
 * hand: this is the path of every query.
 */

export const rcode = { noError: 0, formErr: 1, servFail: 2, nxDomain: 3, notImp: 4, refused: 5, badVers: 16 } as const;
export const rrType = { a: 1, ptr: 12, aaaa: 28, opt: 41 } as const;
export const classIn = 1;

export const headerLength = 12;
/** Bytes of a UDP payload that we offer: no fragment on any path (the DNS flag day's value). */
export const udpPayload = 1232;
const plainUdpPayload = 512;
/** Bytes of a message over TCP: what its length field can say. */
export const maxMessage = 65_535;
const maxName = 255;

/** A query whose sections are all there. */
export interface Query {
  readonly id: number;
  readonly flags: number;
  /** Lower case, without the trailing dot; undefined where a label has a dot in it, which no name of ours has. */
  readonly name: string | undefined;
  readonly type: number;
  readonly class: number;
  /** Offset behind the question. */
  readonly questionEnd: number;
  /** What the client's OPT record says. */
  readonly edns: { readonly payload: number; readonly version: number } | undefined;
}

/** What is wrong with a packet that is no query: no answer at all, or an rcode. */
export type BadPacket = "drop" | "form-error" | "not-implemented";

const scratch = Buffer.alloc(maxName + 1);

/** Reads a query; the header and the question fully, of the other records only their bounds and the OPT. */
export const parseQuery = (packet: Buffer): Query | BadPacket => {
  if (packet.length < headerLength) return "drop";
  const flags = packet.readUInt16BE(2);
  // An answer to a reply would let two resolvers talk for ever.
  if (flags & 0x8000) return "drop";
  if (flags & 0x7800) return "not-implemented";
  if (packet.readUInt16BE(4) !== 1) return "form-error";
  let at = headerLength;
  let used = 0;
  let dotted = false;
  for (;;) {
    const length = packet[at++];
    // Over 63 is a compression pointer, and there is nothing before the first name to point to.
    if (length === undefined || length > 63 || at + length > packet.length) return "form-error";
    if (length === 0) break;
    if (used + length + 1 >= maxName) return "form-error";
    if (used > 0) scratch[used++] = 0x2e;
    for (const end = at + length; at < end; at++) {
      const byte = packet[at]!;
      if (byte === 0x2e) dotted = true;
      scratch[used++] = byte >= 0x41 && byte <= 0x5a ? byte + 32 : byte;
    }
  }
  if (at + 4 > packet.length) return "form-error";
  const questionEnd = at + 4;
  const edns = readOpt(packet, questionEnd);
  if (edns === "form-error") return edns;
  return {
    id: packet.readUInt16BE(0),
    flags,
    name: dotted ? undefined : scratch.toString("latin1", 0, used),
    type: packet.readUInt16BE(at),
    class: packet.readUInt16BE(at + 2),
    questionEnd,
    edns,
  };
};

const readOpt = (packet: Buffer, start: number): Query["edns"] | "form-error" => {
  const before = packet.readUInt16BE(6) + packet.readUInt16BE(8);
  const records = before + packet.readUInt16BE(10);
  let edns: Query["edns"];
  let at = start;
  // Each record takes 11 bytes at least, so that the packet's length bounds the loop whatever the counts say.
  for (let i = 0; i < records; i++) {
    const root = packet[at] === 0;
    const fixed = skipName(packet, at);
    if (fixed === undefined || fixed + 10 > packet.length) return "form-error";
    if (i >= before && packet.readUInt16BE(fixed) === rrType.opt) {
      if (edns || !root) return "form-error";
      edns = { payload: packet.readUInt16BE(fixed + 2), version: packet[fixed + 5]! };
    }
    at = fixed + 10 + packet.readUInt16BE(fixed + 8);
    if (at > packet.length) return "form-error";
  }
  return edns;
};

/** The offset behind a name; pointers are stepped over, never followed. */
const skipName = (packet: Buffer, start: number): number | undefined => {
  for (let at = start; at < packet.length; ) {
    const length = packet[at]!;
    if (length === 0) return at + 1;
    if (length >= 0xc0) return at + 2;
    if (length > 63) return undefined;
    at += length + 1;
  }
  return undefined;
};

/** Bytes that the client takes in one UDP reply. */
export const clientPayload = (query: Query): number =>
  query.edns ? Math.min(Math.max(query.edns.payload, plainUdpPayload), udpPayload) : plainUdpPayload;

/** A reply's parts beyond those that repeat the query. */
export interface ReplyContent {
  readonly rcode: number;
  /** Data of the records, all of the type that was asked for. */
  readonly records?: readonly Buffer[];
  /** Seconds. */
  readonly ttl?: number;
  /** Bytes; records that do not fit are left out and TC is set. */
  readonly limit: number;
}

/** Writes a reply: the question as it was asked, its id, RD and CD, and an OPT where the query had one. */
export const encodeReply = (packet: Buffer, query: Query, content: ReplyContent): Buffer => {
  const { records = [], ttl = 0, limit } = content;
  const optLength = query.edns ? 11 : 0;
  let length = query.questionEnd + optLength;
  let count = 0;
  for (const data of records) {
    if (length + 12 + data.length > limit) break;
    length += 12 + data.length;
    count++;
  }
  const reply = Buffer.allocUnsafe(length);
  packet.copy(reply, 0, 0, query.questionEnd);
  const truncated = count < records.length ? 0x0200 : 0;
  reply.writeUInt16BE(0x8080 | truncated | (query.flags & 0x0110) | (content.rcode & 15), 2);
  reply.writeUInt16BE(count, 6);
  reply.writeUInt16BE(0, 8);
  reply.writeUInt16BE(query.edns ? 1 : 0, 10);
  let at = query.questionEnd;
  for (let i = 0; i < count; i++) {
    const data = records[i]!;
    // The owner is the question's name: a pointer to the byte behind the header.
    reply.writeUInt16BE(0xc000 | headerLength, at);
    reply.writeUInt16BE(query.type, at + 2);
    reply.writeUInt16BE(classIn, at + 4);
    reply.writeUInt32BE(ttl, at + 6);
    reply.writeUInt16BE(data.length, at + 10);
    data.copy(reply, at + 12);
    at += 12 + data.length;
  }
  if (query.edns) {
    reply[at] = 0;
    reply.writeUInt16BE(rrType.opt, at + 1);
    reply.writeUInt16BE(udpPayload, at + 3);
    reply.writeUInt32BE(((content.rcode >> 4) << 24) >>> 0, at + 5);
    reply.writeUInt16BE(0, at + 9);
  }
  return reply;
};

/** A reply of the header alone, for packets whose question cannot be read. At least 12 bytes are expected. */
export const encodeHeaderReply = (packet: Buffer, code: number): Buffer => {
  const reply = Buffer.alloc(headerLength);
  packet.copy(reply, 0, 0, 2);
  reply.writeUInt16BE(0x8080 | (packet.readUInt16BE(2) & 0x7910) | code, 2);
  return reply;
};

/** A name in wire form; undefined where it has no such form (an empty label, one over 63 bytes, over 255 in all). */
export const encodeName = (name: string): Buffer | undefined => {
  const parts: Buffer[] = [];
  let length = 1;
  for (const label of name.split(".")) {
    const bytes = Buffer.from(label, "latin1");
    if (bytes.length === 0 || bytes.length > 63) return undefined;
    parts.push(Buffer.of(bytes.length), bytes);
    length += bytes.length + 1;
  }
  return length > maxName ? undefined : Buffer.concat([...parts, Buffer.of(0)]);
};
