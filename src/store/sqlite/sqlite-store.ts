import { chmodSync, closeSync, existsSync, openSync, readdirSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { errorText, NetworkError, noService } from "../../errors.ts";
import { checkTransaction, closedStore, prefixEnd } from "../checks.ts";
import { LeaseBook, systemClock } from "../lease-book.ts";
import type { Json, Lease, Store, StoreEntry, Transaction, TransactionResult, WatchEvent } from "../store.ts";
import { WatchHub } from "../watch-hub.ts";

/** Written to the file; a file with a higher one is from a newer dnet. */
const schemaVersion = 1;
/** Damaged files kept for whoever wants to look at them. */
const damagedKept = 3;

interface Row {
  readonly key: Uint8Array;
  readonly value: string;
  readonly version: number;
}

/**
 * The embedded store: one SQLite file, written ahead (WAL) and synced at every commit, so that what was acknowledged survives
 * a crash of the process and of the machine. One process at a time has it open.
 */
export class SqliteStore implements Store {
  readonly #database: DatabaseSync;
  readonly #hub = new WatchHub();
  readonly #leases: LeaseBook;
  readonly #statements: Readonly<
    Record<
      "get" | "list" | "listAll" | "put" | "delete" | "leased" | "bump" | "version" | "begin" | "commit" | "rollback",
      StatementSync
    >
  >;
  #closed = false;

  private constructor(database: DatabaseSync) {
    this.#database = database;
    const prepare = (sql: string) => database.prepare(sql);
    this.#statements = {
      get: prepare("SELECT key, value, version FROM entries WHERE key = ?"),
      list: prepare("SELECT key, value, version FROM entries WHERE key >= ? AND key < ? ORDER BY key"),
      listAll: prepare("SELECT key, value, version FROM entries WHERE key >= ? ORDER BY key"),
      put: prepare("INSERT OR REPLACE INTO entries (key, value, version, lease) VALUES (?, ?, ?, ?)"),
      delete: prepare("DELETE FROM entries WHERE key = ?"),
      leased: prepare("SELECT key, value, version FROM entries WHERE lease = ?"),
      bump: prepare("UPDATE counter SET version = version + 1 RETURNING version"),
      version: prepare("SELECT version FROM counter"),
      begin: prepare("BEGIN IMMEDIATE"),
      commit: prepare("COMMIT"),
      rollback: prepare("ROLLBACK"),
    };
    this.#leases = new LeaseBook(systemClock, (lease) => this.#expire(lease));
  }

  /**
   * Opens or makes the file. One that cannot be read is moved aside, said so, and an empty one takes its place.
   * @throws NetworkError `store-locked`, `store-newer`, `store-unavailable`
   */
  static async open(path: string, options: { readonly log?: (message: string) => void } = {}): Promise<SqliteStore> {
    try {
      return SqliteStore.#openFile(path);
    } catch (error) {
      if (error instanceof NetworkError) throw error;
      const { errcode = 0 } = error as { errcode?: number };
      // SQLITE_BUSY: another process has it. SQLITE_CORRUPT, SQLITE_NOTADB: damage.
      if ((errcode & 0xff) === 5) {
        throw noService("store-locked", `${dirname(path)} is in use by another daemon`, {
          cause: error,
          hint: "stop it, or give this one a dataDir of its own",
        });
      }
      if (![11, 26].includes(errcode & 0xff)) {
        throw noService("store-unavailable", `${path} cannot be opened: ${errorText(error)}`, { cause: error });
      }
      const aside = moveAside(path);
      options.log?.(
        `${path} is damaged (${errorText(error)}); it was moved to ${aside}, an empty store takes its place`,
      );
      return SqliteStore.#openFile(path);
    }
  }

  static #openFile(path: string): SqliteStore {
    // Made by us first: SQLite would make it readable for everybody, and its companions after it.
    closeSync(openSync(path, "a", 0o600));
    chmodSync(path, 0o600);
    const database = new DatabaseSync(path);
    try {
      database.exec("PRAGMA locking_mode = EXCLUSIVE");
      const { user_version: version } = database.prepare("PRAGMA user_version").get() as { user_version: number };
      if (version > schemaVersion) {
        throw noService("store-newer", `${path} was written by a newer dnet (format ${version})`, {
          hint: "use that version, or another dataDir",
        });
      }
      database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
      const { quick_check: health } = database.prepare("PRAGMA quick_check(1)").get() as { quick_check: string };
      if (health !== "ok") throw Object.assign(new Error(health), { errcode: 11 });
      database.exec(`
        BEGIN IMMEDIATE;
        CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value TEXT NOT NULL, version INTEGER NOT NULL, lease TEXT)
          WITHOUT ROWID;
        CREATE INDEX IF NOT EXISTS leased ON entries (lease) WHERE lease IS NOT NULL;
        CREATE TABLE IF NOT EXISTS counter (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL);
        INSERT OR IGNORE INTO counter VALUES (1, 0);
        -- A lease cannot outlive the process that renews it.
        DELETE FROM entries WHERE lease IS NOT NULL;
        PRAGMA user_version = ${schemaVersion};
        COMMIT;
      `);
      return new SqliteStore(database);
    } catch (error) {
      database.close();
      throw error;
    }
  }

  async get(key: string): Promise<StoreEntry | undefined> {
    this.#open();
    const row = this.#statements.get.get(Buffer.from(key)) as Row | undefined;
    return row && entry(row);
  }

  async list(prefix: string): Promise<readonly StoreEntry[]> {
    this.#open();
    return this.#list(prefix);
  }

  #list(prefix: string): readonly StoreEntry[] {
    const start = Buffer.from(prefix);
    const end = prefixEnd(prefix);
    const rows = end ? this.#statements.list.all(start, end) : this.#statements.listAll.all(start);
    return (rows as unknown as Row[]).map(entry);
  }

  async transact(transaction: Transaction): Promise<TransactionResult> {
    this.#open();
    const texts = checkTransaction(transaction);
    const { checks = [], puts = [], deletes = [] } = transaction;
    for (const { lease } of puts) {
      if (lease !== undefined && !this.#leases.has(lease)) throw noService("lease-lost", "the lease has expired");
    }
    const conflicts = checks
      .filter(
        ({ key, version }) =>
          ((this.#statements.get.get(Buffer.from(key)) as Row | undefined)?.version ?? 0) !== version,
      )
      .map(({ key }) => key);
    if (conflicts.length > 0) return { ok: false, conflicts: [...new Set(conflicts)] };
    const gone: string[] = [];
    const version = this.#atomically(() => {
      const { version } = this.#statements.bump.get() as { version: number };
      for (const key of deletes) if (this.#statements.delete.run(Buffer.from(key)).changes > 0) gone.push(key);
      for (const [n, { key, lease }] of puts.entries()) {
        this.#statements.put.run(Buffer.from(key), texts[n] ?? "null", version, lease ?? null);
      }
      return version;
    });
    this.#hub.publish(
      version,
      puts.map(({ key, value }) => ({ key, value, version })),
      gone,
    );
    return { ok: true, version };
  }

  #atomically<T>(work: () => T): T {
    this.#statements.begin.run();
    try {
      const result = work();
      this.#statements.commit.run();
      return result;
    } catch (cause) {
      if (this.#database.isTransaction) this.#statements.rollback.run();
      throw noService("store-unavailable", `the embedded store could not write: ${errorText(cause)}`, {
        cause,
        hint: "is the disk full or read-only?",
      });
    }
  }

  async version(): Promise<number> {
    this.#open();
    return this.#version();
  }

  #version(): number {
    return (this.#statements.version.get() as { version: number }).version;
  }

  watch(prefix: string, signal: AbortSignal): AsyncIterable<WatchEvent> {
    this.#open();
    return this.#hub.watch(prefix, signal, () => ({ version: this.#version(), entries: this.#list(prefix) }));
  }

  async lease(ttl: number): Promise<Lease> {
    this.#open();
    return this.#leases.grant(ttl);
  }

  #expire(lease: string): void {
    if (this.#closed) return;
    const keys = (this.#statements.leased.all(lease) as unknown as Row[]).map((row) => entry(row).key);
    if (keys.length === 0) return;
    const version = this.#atomically(() => {
      for (const key of keys) this.#statements.delete.run(Buffer.from(key));
      return (this.#statements.bump.get() as { version: number }).version;
    });
    this.#hub.publish(version, [], keys);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#leases.close();
    this.#hub.close();
    this.#database.close();
  }

  #open(): void {
    if (this.#closed) throw closedStore();
  }
}

const entry = (row: Row): StoreEntry => ({
  key: Buffer.from(row.key).toString("utf8"),
  value: parseValue(row.value),
  version: row.version,
});

/** One value that is no JSON (somebody edited the file) must not make the others unreadable; its reader refuses null. */
const parseValue = (text: string): Json => {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return null;
  }
};

/** Moves a file and its companions out of the way. @returns the new name */
const moveAside = (path: string): string => {
  const aside = `${path}.damaged-${new Date().toISOString().replaceAll(":", "")}`;
  for (const suffix of ["", "-wal", "-shm"]) if (existsSync(path + suffix)) renameSync(path + suffix, aside + suffix);
  const directory = dirname(path);
  const kept = readdirSync(directory).filter(
    (name) => name.startsWith(`${basename(path)}.damaged-`) && name.endsWith("Z"),
  );
  for (const name of kept.sort().slice(0, -damagedKept)) {
    for (const suffix of ["", "-wal", "-shm"]) rmSync(join(directory, name + suffix), { force: true });
  }
  return aside;
};
