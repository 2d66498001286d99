import { readFileSync } from "node:fs";

/**
 * SQLite reads a write-ahead log up to the first frame whose checksum is wrong, and takes it that the rest was never committed:
 * right after a crash, which can tear the last transaction only, and wrong where bits have changed. This tells the two apart.
 * Format: "WAL Format" of sqlite.org/fileformat2.html, section 4.
 */

const headerLength = 32;
const frameHeaderLength = 24;
/** The last bit says in which order of bytes the checksums were computed. */
const magic = 0x377f0682;
/** Bytes of a log that is looked at; SQLite keeps it to some megabytes. */
const mostBytes = 256 * 1024 * 1024;

interface Sums {
  readonly a: number;
  readonly b: number;
}

const checksum = (bytes: Buffer, big: boolean, { a, b }: Sums): Sums => {
  for (let at = 0; at + 8 <= bytes.length; at += 8) {
    a = (a + (big ? bytes.readUInt32BE(at) : bytes.readUInt32LE(at)) + b) >>> 0;
    b = (b + (big ? bytes.readUInt32BE(at + 4) : bytes.readUInt32LE(at + 4)) + a) >>> 0;
  }
  return { a, b };
};

/** True where a log shows that transactions were committed which SQLite will not read. */
export const hasLostCommits = (path: string): boolean => {
  let log: Buffer;
  try {
    log = readFileSync(path);
  } catch {
    return false;
  }
  if (log.length < headerLength + frameHeaderLength || log.length > mostBytes) return false;
  const header = readHeader(log);
  // A header that is wrong makes SQLite pass over all of it.
  if (!header) return commitsFrom(log, 0, sizeOfPages(log)) > 1;
  let sums = header.sums;
  const length = frameHeaderLength + header.pageSize;
  for (let n = 0; headerLength + (n + 1) * length <= log.length; n++) {
    const frame = log.subarray(headerLength + n * length, headerLength + (n + 1) * length);
    // What is left of an earlier round of the log is no loss.
    if (!frame.subarray(8, 16).equals(header.salts)) return false;
    sums = checksum(frame.subarray(frameHeaderLength), header.big, checksum(frame.subarray(0, 8), header.big, sums));
    if (sums.a === frame.readUInt32BE(16) && sums.b === frame.readUInt32BE(20)) continue;
    // Of what comes after, the last transaction may be torn; an earlier one was acknowledged and on the disk.
    return commitsFrom(log, n, header.pageSize, header.salts) > 1;
  }
  return false;
};

const readHeader = (log: Buffer) => {
  const first = log.readUInt32BE(0);
  const pageSize = log.readUInt32BE(8);
  const big = (first & 1) === 1;
  const sums = checksum(log.subarray(0, 24), big, { a: 0, b: 0 });
  const right = sums.a === log.readUInt32BE(24) && sums.b === log.readUInt32BE(28);
  if ((first & ~1) !== magic || !right) return undefined;
  return { pageSize, big, sums, salts: log.subarray(16, 24) };
};

/** The size in a header that is wrong may be right; ours has never been another. */
const sizeOfPages = (log: Buffer): number => {
  const size = log.readUInt32BE(8);
  return size >= 512 && size <= 65_536 && (size & (size - 1)) === 0 ? size : 4_096;
};

/** Frames that end a transaction, from the one with number `first` on, of the same round as that one. */
const commitsFrom = (log: Buffer, first: number, pageSize: number, salts?: Buffer): number => {
  const length = frameHeaderLength + pageSize;
  const round = salts ?? log.subarray(headerLength + 8, headerLength + 16);
  let commits = 0;
  for (let at = headerLength + first * length; at + length <= log.length; at += length) {
    if (!log.subarray(at + 8, at + 16).equals(round)) continue;
    if (log.readUInt32BE(at + 4) !== 0) commits++;
  }
  return commits;
};
