/**
 * Messages over TCP: two bytes of length before each (RFC 1035 4.2.2). Takes time in proportion to the bytes, however
 * they are cut, and memory of one message: no sender can make it loop or grow.
 */
export class FrameReader {
  #chunks: Buffer[] = [];
  #header: number | undefined;
  #message: Buffer | undefined;
  #filled = 0;

  /** Takes over bytes as they came. */
  feed(chunk: Buffer): void {
    if (chunk.length > 0) this.#chunks.push(chunk);
  }

  /** The next whole message, which may be empty; undefined until more bytes come. */
  next(): Buffer | undefined {
    for (;;) {
      if (this.#message && this.#filled === this.#message.length) {
        const message = this.#message;
        this.#message = undefined;
        this.#filled = 0;
        return message;
      }
      const chunk = this.#chunks.shift();
      if (!chunk) return undefined;
      const used = this.#take(chunk);
      if (used < chunk.length) this.#chunks.unshift(chunk.subarray(used));
    }
  }

  /** Takes a byte of the length at a time, or what the message still lacks; at least one byte. */
  #take(chunk: Buffer): number {
    if (this.#message) {
      const used = chunk.copy(this.#message, this.#filled);
      this.#filled += used;
      return used;
    }
    const byte = chunk[0]!;
    if (this.#header === undefined) this.#header = byte;
    else {
      this.#message = Buffer.allocUnsafe(this.#header * 256 + byte);
      this.#header = undefined;
    }
    return 1;
  }
}

/** A message with its length before it. At most 65535 bytes are expected. */
export const frame = (message: Buffer): Buffer => {
  const framed = Buffer.allocUnsafe(message.length + 2);
  framed.writeUInt16BE(message.length, 0);
  message.copy(framed, 2);
  return framed;
};
