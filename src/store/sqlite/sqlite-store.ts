import { chmodSync, closeSync, copyFileSync, fsyncSync, openSync, rmSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { errorText, NetworkError, noService } from "../../errors.ts";
import { checkTransaction, closedStore, prefixEnd } from "../checks.ts";
import { LeaseBook, systemClock } from "../lease-book.ts";
import type { Json, Lease, Store, StoreEntry, Transaction, TransactionResult, WatchEvent } from "../store.ts";
import { WatchHub } from "../watch-hub.ts";
import { copyAside, moveAside, versionIn } from "./damaged-file.ts";
import { applicationId, headerDamage } from "./file-header.ts";
import { LogSync } from "./log-sync.ts";
import { copyPath, StoreCopy } from "./store-copy.ts";
import { hasLostCommits } from "./wal-loss.ts";

/** Written to the file; a file with a higher one is from a newer dnet. */
const schemaVersion = 1;

/** A file that could not be read, and what took its place. */
export interface Replaced {
  /** Where the damaged file is now. */
  readonly aside: string;
  readonly reason: string;
  /** `copy`: the store's copy; `part`: what could be read of the file itself; `empty`: nothing. */
  readonly by: "copy" | "part" | "empty";
  /** ISO time of the copy. */
  readonly of?: string;
}

export interface SqliteStoreOptions {
  readonly log?: (message: string) => void;
  /** Keeps a copy beside the file, seconds behind it, and takes it where the file is damaged. */
  readonly copy?: boolean;
}

interface Row {
  readonly key: Uint8Array;
  readonly value: string;
  readonly version: number;
}

/**
 * The embedded store: one SQLite file, written ahead (WAL). What was committed survives the death of the process; what `synced`
 * has confirmed, that of the machine. The log is brought to the disk beside other work, from the commit on: a machine that
 * dies takes the kernel's objects with it, so nothing but an answer has to wait for the disk. One process at a time has the file.
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
  readonly #copy: StoreCopy | undefined;
  /** Descriptor of the write-ahead log. */
  readonly #log: number;
  readonly #sync: LogSync;
  #closed = false;
  /** Set where the file was damaged when it was opened. */
  replaced: Replaced | undefined;
  /** Why the last transaction could not be written; undefined since one could. */
  #trouble: string | undefined;

  private constructor(database: DatabaseSync, log: number, copy: StoreCopy | undefined) {
    this.#database = database;
    this.#log = log;
    this.#sync = new LogSync(log);
    this.#copy = copy;
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

  /** Why nothing can be written now; undefined while it can. */
  get trouble(): string | undefined {
    return this.#sync.failure ?? this.#trouble;
  }

  /**
   * Opens or makes the file. One that cannot be read is moved aside, said so, and its copy or an empty one takes its place.
   * @throws NetworkError `store-locked`, `store-newer`, `store-unavailable`
   */
  static async open(path: string, options: SqliteStoreOptions = {}): Promise<SqliteStore> {
    const lost = hasLostCommits(`${path}-wal`);
    try {
      const aside = lost ? copyAside(path) : undefined;
      const store = SqliteStore.#openFile(path, options);
      return aside === undefined ? store : await SqliteStore.#newerOf(store, path, aside, options);
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
      return SqliteStore.#replace(path, moveAside(path), errorText(error), options);
    }
  }

  static #replace(path: string, aside: string, reason: string, options: SqliteStoreOptions): SqliteStore {
    const copy = options.copy ? copyPath(path) : undefined;
    const of = copy === undefined ? undefined : statSync(copy, { throwIfNoEntry: false })?.mtime.toISOString();
    if (copy !== undefined && of !== undefined) {
      try {
        copyFileSync(copy, path);
        const store = SqliteStore.#openFile(path, options);
        store.replaced = { aside, reason, by: "copy", of };
        options.log?.(`${path} is damaged (${reason}); it was moved to ${aside}, the copy of ${of} takes its place`);
        return store;
      } catch (error) {
        options.log?.(`${copy} is damaged too (${errorText(error)})`);
        for (const suffix of ["", "-wal", "-shm"]) rmSync(path + suffix, { force: true });
      }
    }
    options.log?.(`${path} is damaged (${reason}); it was moved to ${aside}, an empty store takes its place`);
    const store = SqliteStore.#openFile(path, options);
    store.replaced = { aside, reason, by: "empty" };
    return store;
  }

  /** The log has lost its end: what could be read of it, or the copy, whichever has seen more. */
  static async #newerOf(
    store: SqliteStore,
    path: string,
    aside: string,
    options: SqliteStoreOptions,
  ): Promise<SqliteStore> {
    const reason = "its write-ahead log has frames with wrong checksums before its end";
    if (options.copy && versionIn(copyPath(path)) > store.#version()) {
      store.#database.close();
      for (const suffix of ["", "-wal", "-shm"]) rmSync(path + suffix, { force: true });
      return SqliteStore.#replace(path, aside, reason, options);
    }
    options.log?.(`${path} is damaged (${reason}); a copy of it is in ${aside}, what could be read of it is used`);
    store.replaced = { aside, reason, by: "part" };
    return store;
  }

  static #openFile(path: string, options: SqliteStoreOptions): SqliteStore {
    // Made by us first: SQLite would make it readable for everybody, and its companions after it.
    closeSync(openSync(path, "a", 0o600));
    chmodSync(path, 0o600);
    const damage = headerDamage(path, schemaVersion);
    if (damage !== undefined) throw damaged(damage);
    const database = new DatabaseSync(path);
    try {
      database.exec("PRAGMA locking_mode = EXCLUSIVE");
      const { version, twice } = database
        .prepare(
          "SELECT user_version AS version, application_id AS twice FROM pragma_user_version, pragma_application_id",
        )
        .get() as { version: number; twice: number };
      if (version > schemaVersion) {
        throw noService("store-newer", `${path} was written by a newer dnet (format ${version})`, {
          hint: "use that version, or another dataDir",
        });
      }
      database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
      const { quick_check: health } = database.prepare("PRAGMA quick_check(1)").get() as { quick_check: string };
      // Several lines, the first of which names the database.
      const reason = health.replace(/^\*{3} in database main \*{3}\s*/, "").replaceAll(/\s+/g, " ");
      if (health !== "ok") throw damaged(reason);
      database.exec(`
        BEGIN IMMEDIATE;
        CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value TEXT NOT NULL, version INTEGER NOT NULL, lease TEXT)
          WITHOUT ROWID;
        CREATE INDEX IF NOT EXISTS leased ON entries (lease) WHERE lease IS NOT NULL;
        CREATE TABLE IF NOT EXISTS counter (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL);
        INSERT OR IGNORE INTO counter VALUES (1, 0);
        -- A lease cannot outlive the process that renews it.
        DELETE FROM entries WHERE lease IS NOT NULL;
        ${version === schemaVersion ? "" : `PRAGMA user_version = ${schemaVersion};`}
        ${twice === applicationId(schemaVersion) ? "" : `PRAGMA application_id = ${applicationId(schemaVersion)};`}
        COMMIT;
      `);
      const log = options.log ?? (() => undefined);
      return new SqliteStore(database, openLog(path), options.copy ? new StoreCopy(database, path, log) : undefined);
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
    if (this.#sync.failure !== undefined) throw this.#sync.refusal();
    this.#statements.begin.run();
    try {
      const result = work();
      this.#statements.commit.run();
      this.#sync.changed();
      this.#trouble = undefined;
      this.#copy?.changed();
      return result;
    } catch (cause) {
      if (this.#database.isTransaction) this.#statements.rollback.run();
      this.#trouble = errorText(cause);
      throw noService("store-unavailable", `the embedded store could not write: ${errorText(cause)}`, {
        cause,
        hint: "is the disk full or read-only?",
      });
    }
  }

  async synced(): Promise<void> {
    await this.#sync.done();
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
    await this.#copy?.close();
    await this.#sync.idle();
    closeSync(this.#log);
    // It writes the log back into the file, and syncs both.
    this.#database.close();
  }

  #open(): void {
    if (this.#closed) throw closedStore();
  }
}

/** As SQLite says it (SQLITE_CORRUPT). */
const damaged = (reason: string): Error => Object.assign(new Error(reason), { errcode: 11 });

/** The write-ahead log of a file that is open; its name in the directory is on the disk when this returns. */
const openLog = (path: string): number => {
  const log = openSync(`${path}-wal`, "r+");
  const directory = openSync(dirname(path), "r");
  try {
    fsyncSync(log);
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
  return log;
};

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
