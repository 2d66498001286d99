import { closeSync, openSync, readSync } from "node:fs";

/** Written beside the format (`PRAGMA user_version`), in `PRAGMA application_id`: "dn", and the format once more. */
export const applicationId = (format: number): number => 0x64_6e_00_00 + format;

/**
 * What SQLite takes at its word in the first 100 bytes of its file, and would answer as something else than damage: a number for
 * "only to be read" (byte 18), formats it does not know (bytes 18, 19, 44), and our own format, of which a flipped bit makes one
 * of a newer dnet.
 * @see https://www.sqlite.org/fileformat2.html#the_database_header
 * @returns what is wrong with it; undefined where nothing is, and for a file that is new
 */
export const headerDamage = (path: string, known: number): string | undefined => {
  const header = Buffer.alloc(100);
  const file = openSync(path, "r");
  try {
    if (readSync(file, header, 0, header.length, 0) < header.length) return undefined;
  } finally {
    closeSync(file);
  }
  // What is no database at all SQLite tells itself.
  if (!header.toString("latin1").startsWith("SQLite format 3\0")) return undefined;
  for (const at of [18, 19]) {
    const found = header.readUInt8(at);
    if (found < 1 || found > 2) return `its header has ${found} at byte ${at}, where 1 or 2 belongs`;
  }
  const schema = header.readUInt32BE(44);
  if (schema > 4) return `its header has schema format ${schema}, which is none`;
  const format = header.readInt32BE(60);
  const twice = header.readUInt32BE(68);
  if ((format > known || format < 0) && twice !== applicationId(format)) {
    return `its header has format ${format} in one place and not in the other`;
  }
  return undefined;
};
