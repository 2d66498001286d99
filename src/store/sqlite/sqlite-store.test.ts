import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { storeSuite } from "../../../test/contract/store-suite.ts";
import { applicationId } from "./file-header.ts";
import { SqliteStore } from "./sqlite-store.ts";

storeSuite("SqliteStore", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const directory = mkdtempSync(join(tmpdir(), "dnet-store-"));
  const path = join(directory, "dnet.db");
  let current = await SqliteStore.open(path);
  return {
    store: current,
    reopen: async () => {
      await current.close();
      current = await SqliteStore.open(path);
      return current;
    },
    cleanup: async () => {
      vi.useRealTimers();
      rmSync(directory, { recursive: true });
    },
    elapse: async (milliseconds) => void vi.advanceTimersByTime(milliseconds),
  };
});

describe("the file", () => {
  let directory: string;
  let path: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "dnet-store-"));
    path = join(directory, "dnet.db");
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  it("is for its owner only, with its companions", async () => {
    const store = await SqliteStore.open(path);
    await store.transact({ puts: [{ key: "a", value: 1 }] });
    for (const name of readdirSync(directory)) expect(statSync(join(directory, name)).mode & 0o777).toBe(0o600);
    await store.close();
  });

  it("is one process's: a second opener is refused at once, with what to do", async () => {
    const store = await SqliteStore.open(path);
    await expect(SqliteStore.open(path)).rejects.toMatchObject({ code: "store-locked", hint: expect.any(String) });
    await store.close();
    await (await SqliteStore.open(path)).close();
  });

  it("of a newer version is refused and left as it is", async () => {
    const database = new DatabaseSync(path);
    database.exec(`PRAGMA user_version = 99; PRAGMA application_id = ${applicationId(99)}`);
    database.close();
    const before = readFileSync(path);
    await expect(SqliteStore.open(path)).rejects.toMatchObject({ code: "store-newer" });
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  it.each([
    ["no database", () => writeFileSync(path, "garbage ".repeat(1000))],
    ["cut short", () => truncateSync(path, 5000)],
    [
      "with flipped bits",
      () => {
        const bytes = readFileSync(path);
        bytes.fill(0xff, 4096, 6000);
        writeFileSync(path, bytes);
      },
    ],
  ])("that is %s is moved aside, said so, and replaced by an empty one", async (_what, damage) => {
    const first = await SqliteStore.open(path);
    for (let n = 0; n < 300; n++) await first.transact({ puts: [{ key: `k/${n}`, value: "x".repeat(100) }] });
    await first.close();
    damage();
    const messages: string[] = [];
    const store = await SqliteStore.open(path, { log: (message) => messages.push(message) });
    expect(await store.list("")).toEqual([]);
    expect(messages).toHaveLength(1);
    expect(readdirSync(directory).filter((name) => name.includes(".damaged-") && name.endsWith("Z"))).toHaveLength(1);
    await store.close();
  });

  it("keeps at most three damaged ones", async () => {
    for (let n = 0; n < 6; n++) {
      writeFileSync(path, `garbage ${n} `.repeat(1000));
      rmSync(`${path}-wal`, { force: true });
      await (await SqliteStore.open(path)).close();
    }
    expect(readdirSync(directory).filter((name) => name.includes(".damaged-"))).toHaveLength(3);
    expect(existsSync(path)).toBe(true);
  });
});
