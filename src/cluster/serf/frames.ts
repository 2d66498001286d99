import { Decoder } from "@msgpack/msgpack";
import { internal } from "../../errors.ts";

/**
 * Cuts a stream of MessagePack objects (specification of 2013) into objects: bytes in, objects out. An object is decoded when it is
 * there as a whole, so that a length that lies costs nothing.
 */

/** Bytes of one object: 10,000 members with full tags need 8 MiB. */
const maxObject = 16 * 1024 * 1024;
/** Levels of arrays and maps; serf's answers have 4. */
const maxDepth = 32;

const malformed = (reason: string) => internal("serf-protocol", `serf's answer is malformed: ${reason}`);

/** How an object begins: bytes up to the next element, and elements that belong to it. */
interface Head {
  readonly size: number;
  readonly elements: number;
}

/** Undefined where the length itself is not there yet. */
const headAt = (bytes: Buffer, at: number): Head | undefined => {
  const first = bytes[at] ?? 0;
  const length = (width: 1 | 2 | 4): number | undefined =>
    at + 1 + width > bytes.length ? undefined : bytes.readUIntBE(at + 1, width);
  const blob = (width: 1 | 2 | 4): Head | undefined => {
    const size = length(width);
    return size === undefined ? undefined : { size: 1 + width + size, elements: 0 };
  };
  const container = (width: 2 | 4, each: 1 | 2): Head | undefined => {
    const count = length(width);
    return count === undefined ? undefined : { size: 1 + width, elements: count * each };
  };
  if (first <= 0x7f || first >= 0xe0) return { size: 1, elements: 0 };
  if (first <= 0x8f) return { size: 1, elements: 2 * (first & 0x0f) };
  if (first <= 0x9f) return { size: 1, elements: first & 0x0f };
  if (first <= 0xbf) return { size: 1 + (first & 0x1f), elements: 0 };
  switch (first) {
    case 0xc0: // nil, false, true
    case 0xc2:
    case 0xc3:
      return { size: 1, elements: 0 };
    case 0xc4: // bin 8, str 8
    case 0xd9:
      return blob(1);
    case 0xc5: // bin 16, str 16
    case 0xda:
      return blob(2);
    case 0xc6: // bin 32, str 32
    case 0xdb:
      return blob(4);
    case 0xcc: // 8 bits
    case 0xd0:
      return { size: 2, elements: 0 };
    case 0xcd: // 16 bits
    case 0xd1:
      return { size: 3, elements: 0 };
    case 0xca: // 32 bits
    case 0xce:
    case 0xd2:
      return { size: 5, elements: 0 };
    case 0xcb: // 64 bits
    case 0xcf:
    case 0xd3:
      return { size: 9, elements: 0 };
    case 0xdc: // array 16, array 32
      return container(2, 1);
    case 0xdd:
      return container(4, 1);
    case 0xde: // map 16, map 32
      return container(2, 2);
    case 0xdf:
      return container(4, 2);
    default:
      throw malformed(`a byte 0x${first.toString(16)} begins no object that serf sends`);
  }
};

/**
 * Where the object that begins at `start` ends; undefined where it is not complete.
 * @throws NetworkError `serf-protocol`
 */
export const objectEnd = (bytes: Buffer, start: number): number | undefined => {
  let at = start;
  // Elements still to come, of each container that is open.
  const open = [1];
  while (open.length > 0) {
    const rest = open.pop() ?? 0;
    if (rest === 0) continue;
    if (at >= bytes.length) return undefined;
    const head = headAt(bytes, at);
    if (!head) return undefined;
    at += head.size;
    // Every element has at least one byte.
    if (at - start + head.elements > maxObject) throw malformed(`an object of more than ${maxObject} bytes`);
    open.push(rest - 1);
    if (head.elements > 0 && open.push(head.elements) > maxDepth) throw malformed("it is nested too deep");
  }
  return at <= bytes.length ? at : undefined;
};

/** Text stays bytes: what serf calls a string may hold anything. Keys are plain names. */
const decoder = new Decoder({
  rawStrings: true,
  mapKeyConverter: (key) => {
    if (key instanceof Uint8Array) return Buffer.from(key).toString("utf8");
    if (typeof key === "string" || typeof key === "number") return key;
    throw malformed("a key that is no text");
  },
});

export class FrameReader {
  #chunks: Buffer[] = [];
  #length = 0;
  /** Bytes without which another look is useless. */
  #wanted = 1;

  /** The objects that are complete with these bytes. @throws NetworkError `serf-protocol`; the stream is then useless */
  push(chunk: Buffer): readonly unknown[] {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    if (this.#length < this.#wanted) return [];
    const bytes = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks, this.#length);
    const objects: unknown[] = [];
    let at = 0;
    for (;;) {
      const end = at < bytes.length ? objectEnd(bytes, at) : undefined;
      if (end === undefined) break;
      objects.push(decode(bytes.subarray(at, end)));
      at = end;
    }
    const rest = bytes.subarray(at);
    if (rest.length > maxObject) throw malformed(`an object of more than ${maxObject} bytes`);
    this.#chunks = rest.length === 0 ? [] : [Buffer.from(rest)];
    this.#length = rest.length;
    // A large object is looked at again when it has grown by a half, so that its cost stays in proportion.
    this.#wanted = rest.length < 65_536 ? rest.length + 1 : Math.floor(rest.length * 1.5);
    return objects;
  }
}

const decode = (bytes: Buffer): unknown => {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw internal("serf-protocol", "serf's answer is malformed: it is no MessagePack", { cause });
  }
};
