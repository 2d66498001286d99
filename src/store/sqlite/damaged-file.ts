import { copyFileSync, existsSync, readdirSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";

/** What is done to a store's file that is damaged, and its companions (`-wal`, `-shm`). */

/** Damaged files kept for whoever wants to look at them. */
const damagedKept = 3;

/** The number of the last transaction in a file; 0 where it cannot be read. */
export const versionIn = (path: string): number => {
  if (!existsSync(path)) return 0;
  try {
    const database = new DatabaseSync(path, { readOnly: true });
    try {
      return (database.prepare("SELECT version FROM counter").get() as { version: number }).version;
    } finally {
      database.close();
    }
  } catch {
    return 0;
  }
};

/** Moves a file and its companions out of the way. @returns the new name */
export const moveAside = (path: string): string => setAside(path, renameSync);

/** Copies them. @returns the name of the copy */
export const copyAside = (path: string): string => setAside(path, copyFileSync);

const setAside = (path: string, move: (from: string, to: string) => void): string => {
  const aside = `${path}.damaged-${new Date().toISOString().replaceAll(":", "")}`;
  for (const suffix of ["", "-wal", "-shm"]) if (existsSync(path + suffix)) move(path + suffix, aside + suffix);
  const directory = dirname(path);
  const kept = readdirSync(directory).filter(
    (name) => name.startsWith(`${basename(path)}.damaged-`) && name.endsWith("Z"),
  );
  for (const name of kept.sort().slice(0, -damagedKept)) {
    for (const suffix of ["", "-wal", "-shm"]) rmSync(join(directory, name + suffix), { force: true });
  }
  return aside;
};
