import { type Family, familyOf, type Ip, ipToBigInt } from "../../net/ip.ts";
import type { AddressSet } from "../ipam.ts";

/** Addresses of one chunk: 1024, as bits; a word of 32 at a time is looked at. */
const chunkBits = 10n;
const chunkSize = 1 << Number(chunkBits);

interface Chunk {
  readonly words: Uint32Array;
  used: number;
}

/** Chunks of one family by number (address / 1024). */
class Chunks {
  readonly chunks = new Map<bigint, Chunk>();
  /** Every chunk from this one up to `fullEnd` (exclusive) is full: a search from there begins at the end. */
  fullFrom = 0n;
  fullEnd = 0n;
}

/** Addresses in use, sparse over both families: memory grows with what is in it, the search for a free one does not. */
export class SparseAddressSet implements AddressSet {
  readonly #families: Readonly<Record<Family, Chunks>> = { 4: new Chunks(), 6: new Chunks() };

  has(ip: Ip): boolean {
    const value = ipToBigInt(ip);
    const chunk = this.#families[familyOf(ip)].chunks.get(value >> chunkBits);
    return chunk !== undefined && isSet(chunk, Number(value & 1023n));
  }

  add(ip: Ip): void {
    const { chunks } = this.#families[familyOf(ip)];
    const value = ipToBigInt(ip);
    const number = value >> chunkBits;
    let chunk = chunks.get(number);
    if (!chunk) {
      chunk = { words: new Uint32Array(chunkSize / 32), used: 0 };
      chunks.set(number, chunk);
    }
    const bit = Number(value & 1023n);
    if (isSet(chunk, bit)) return;
    chunk.words[bit >> 5] = (chunk.words[bit >> 5] ?? 0) | (1 << (bit & 31));
    chunk.used++;
  }

  delete(ip: Ip): void {
    const family = this.#families[familyOf(ip)];
    const value = ipToBigInt(ip);
    const number = value >> chunkBits;
    const chunk = family.chunks.get(number);
    const bit = Number(value & 1023n);
    if (!chunk || !isSet(chunk, bit)) return;
    chunk.words[bit >> 5] = (chunk.words[bit >> 5] ?? 0) & ~(1 << (bit & 31));
    chunk.used--;
    if (chunk.used === 0) family.chunks.delete(number);
    if (family.fullFrom <= number && number < family.fullEnd) family.fullEnd = number;
  }

  /** Both families have numbers of their own: values past 32 bits, and those of `::/96` never handed out, are IPv6. */
  lowestFree(first: bigint, last: bigint): bigint | undefined {
    const family = this.#families[last >> 32n === 0n ? 4 : 6];
    let value = first;
    while (value <= last) {
      const number = value >> chunkBits;
      if (family.fullFrom <= number && number < family.fullEnd) {
        value = family.fullEnd << chunkBits;
        continue;
      }
      const chunk = family.chunks.get(number);
      if (!chunk) return value;
      if (chunk.used === chunkSize) {
        // Remembered, so that the next search need not walk over the full ones again.
        if (number === family.fullEnd && family.fullEnd > family.fullFrom) family.fullEnd = number + 1n;
        else [family.fullFrom, family.fullEnd] = [number, number + 1n];
        value = (number + 1n) << chunkBits;
        continue;
      }
      const bit = lowestClear(chunk, Number(value & 1023n));
      if (bit !== undefined) {
        const found = (number << chunkBits) + BigInt(bit);
        return found <= last ? found : undefined;
      }
      value = (number + 1n) << chunkBits;
    }
    return undefined;
  }
}

const isSet = (chunk: Chunk, bit: number): boolean => ((chunk.words[bit >> 5] ?? 0) & (1 << (bit & 31))) !== 0;

const lowestClear = (chunk: Chunk, from: number): number | undefined => {
  for (let word = from >> 5; word < chunk.words.length; word++) {
    // Bits below `from` count as set.
    const below = word === from >> 5 ? (1 << (from & 31)) - 1 : 0;
    const free = ~((chunk.words[word] ?? 0) | below);
    if (free !== 0) return (word << 5) + 31 - Math.clz32(free & -free);
  }
  return undefined;
};
