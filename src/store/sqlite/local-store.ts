import { copyFileSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { errorText, NetworkError, noService } from "../../errors.ts";
import { MemoryStore } from "../memory/memory-store.ts";
import type { Store, StoreEntry } from "../store.ts";
import { type Replaced, SqliteStore, type SqliteStoreOptions } from "./sqlite-store.ts";

/** The local store as it could be opened. */
export interface LocalStore {
  readonly store: Store;
  /** Set where the file was damaged: records may be missing, or older than what the kernel has. */
  readonly replaced?: Replaced;
  /** Why it cannot be written now; undefined while it can. */
  readonly trouble: () => string | undefined;
}

/**
 * Opens the local store, and where its file cannot be opened for writing (disk full, read-only file system, no descriptors),
 * what can be read of it: what runs goes on with names and repairs, and changes are refused.
 * @param scratch directories in which files may be made for the moment
 * @throws NetworkError `store-locked`, `store-newer`
 */
export const openLocalStore = async (
  path: string,
  options: SqliteStoreOptions & { readonly scratch?: readonly string[] } = {},
): Promise<LocalStore> => {
  try {
    const store = await SqliteStore.open(path, { ...options, copy: true });
    return {
      store,
      ...(store.replaced && { replaced: store.replaced }),
      trouble: () => store.trouble && `it cannot be written: ${store.trouble}`,
    };
  } catch (error) {
    if (error instanceof NetworkError && error.code !== "store-unavailable") throw error;
    const reason = errorText(error);
    const found = await readAside(path, [...(options.scratch ?? []), "/dev/shm", tmpdir()]);
    const state = found ? `what it holds was read (${found.length} entries)` : "and it cannot be read either";
    options.log?.(`${reason}; ${state}: nothing can be changed until the daemon is started anew`);
    return {
      store: await frozenStore(found ?? [], reason),
      trouble: () => `${reason}; ${found ? "it is only read" : "it cannot be read either: no record is known"}`,
    };
  }
};

/** Reads the file through a copy of it: SQLite wants to write even to read what a crash has left. */
const readAside = async (path: string, directories: readonly string[]): Promise<readonly StoreEntry[] | undefined> => {
  for (const parent of directories) {
    let directory: string | undefined;
    try {
      directory = mkdtempSync(join(parent, "dnet-store-"));
      const file = join(directory, "dnet.db");
      for (const suffix of ["", "-wal"]) if (existsSync(path + suffix)) copyFileSync(path + suffix, file + suffix);
      const store = await SqliteStore.open(file);
      const entries = await store.list("");
      await store.close();
      return store.replaced ? undefined : entries;
    } catch {
      // The next directory may do.
    } finally {
      if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
    }
  }
  return undefined;
};

const frozenStore = async (entries: readonly StoreEntry[], reason: string): Promise<Store> => {
  const store = new MemoryStore();
  const most = 1_000;
  for (let n = 0; n < entries.length; n += most) {
    await store.transact({ puts: entries.slice(n, n + most).map(({ key, value }) => ({ key, value })) });
  }
  store.fault = (point) => {
    if (point === "before-transact" || point === "before-lease") {
      throw noService("store-read-only", `the local store cannot be written: ${reason}`, {
        hint: "free the disk or mount it for writing, then start the daemon anew",
      });
    }
  };
  return store;
};
