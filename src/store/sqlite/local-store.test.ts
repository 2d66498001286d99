import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { runs } from "../../../test/runs.ts";
import { openLocalStore } from "./local-store.ts";
import { SqliteStore } from "./sqlite-store.ts";

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "dnet-store-"));
  path = join(directory, "dnet.db");
});
afterEach(() => rmSync(directory, { recursive: true }));

/** Enough entries for interior pages, and enough removed for a list of free pages. */
const count = 400;
const removed = 100;
const name = (n: number) => `k/${String(n).padStart(4, "0")}`;
const fill = async (store: SqliteStore) => {
  for (let n = 0; n < count; n += 20) {
    const puts = Array.from({ length: 20 }, (_, i) => ({
      key: name(n + i),
      value: { n: n + i, text: "x".repeat(900) },
    }));
    await store.transact({ puts });
  }
  await store.transact({ deletes: Array.from({ length: removed }, (_, n) => name(n)) });
};
const pageSize = 4096;

/** Offsets of one page of each class, found by the first byte of its b-tree header (section 1.6 of the file format). */
const pagesOf = (bytes: Buffer) => {
  const all = Array.from({ length: bytes.length / pageSize }, (_, n) => n * pageSize);
  const kind = (offset: number) => bytes[offset + (offset === 0 ? 100 : 0)];
  const firstFree = (bytes.readUInt32BE(32) - 1) * pageSize;
  return {
    header: 0,
    // An index page: WITHOUT ROWID tables are stored as indexes.
    interior: all.find((offset) => offset > 0 && kind(offset) === 2) ?? -1,
    leaf: all.filter((offset) => offset > 0 && kind(offset) === 10).at(-2) ?? -1,
    freelist: firstFree,
  };
};
type Class = keyof ReturnType<typeof pagesOf>;

/** The complete list, as the first store had it. */
const closedStore = async () => {
  const { store } = await openLocalStore(path);
  await fill(store as SqliteStore);
  const entries = await store.list("");
  await store.close();
  return entries;
};

describe("3, moby 18113, moby 20312, moby 20694, moby 23078, moby 43072: a damaged file", () => {
  const bits = (bytes: Buffer, at: number): Buffer => {
    for (let n = at; n < at + 64 && n < bytes.length; n++) bytes[n] = (bytes[n] ?? 0) ^ 0xa5;
    return bytes;
  };
  it.each<[string, Class, (bytes: Buffer, page: number) => Buffer]>([
    ["flipped in its header", "header", (bytes) => bits(bytes, 0)],
    ["flipped in the schema", "header", (bytes) => bits(bytes, 100)],
    ["flipped in an interior page", "interior", (bytes, page) => bits(bytes, page)],
    ["flipped in a leaf's header", "leaf", (bytes, page) => bits(bytes, page)],
    ["flipped in the list of free pages", "freelist", (bytes, page) => bits(bytes, page)],
    ["cut within its header", "header", (bytes) => bytes.subarray(0, 50)],
    ["cut after its first page", "header", (bytes) => bytes.subarray(0, pageSize)],
    ["cut at an interior page", "interior", (bytes, page) => bytes.subarray(0, page + 100)],
    ["cut at a leaf", "leaf", (bytes, page) => bytes.subarray(0, page + 100)],
    ["empty of anything but noughts", "header", (bytes) => Buffer.alloc(bytes.length)],
  ])("%s is set aside, and its copy takes its place with everything", async (_what, kind, damage) => {
    const entries = await closedStore();
    const bytes = readFileSync(path);
    const page = pagesOf(bytes)[kind];
    expect(page).toBeGreaterThanOrEqual(0);
    writeFileSync(path, damage(bytes, page));
    const opened = await openLocalStore(path);
    expect(opened.replaced).toMatchObject({ by: "copy", of: expect.any(String) });
    expect((await opened.store.list("")).map(({ key, value }) => [key, value])).toEqual(
      entries.map(({ key, value }) => [key, value]),
    );
    await opened.store.transact({ puts: [{ key: "after", value: 1 }] });
    await opened.store.close();
    const again = await openLocalStore(path);
    expect(again.replaced).toBeUndefined();
    expect(await again.store.get("after")).toBeDefined();
    await again.store.close();
  });

  it("whose copy is damaged too is replaced by an empty one", async () => {
    await closedStore();
    for (const file of [path, `${path}.copy`]) writeFileSync(file, "garbage ".repeat(1000));
    const { store, replaced } = await openLocalStore(path);
    expect(replaced).toMatchObject({ by: "empty" });
    expect(await store.list("")).toEqual([]);
    await store.close();
  });

  it("with one bit of a byte of its header flipped opens, has what it had, and takes changes", async () => {
    const entries = await closedStore();
    const [bytes, copy] = [readFileSync(path), readFileSync(`${path}.copy`)];
    // All 800 of them pass as well, in five seconds.
    for (let bit = 0; bit < 800; bit += Math.floor(800 / runs(115))) {
      const broken = Buffer.from(bytes);
      broken[bit >> 3] = (broken[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      for (const file of readdirSync(directory)) rmSync(join(directory, file));
      writeFileSync(path, broken);
      writeFileSync(`${path}.copy`, copy);
      const opened = await openLocalStore(path);
      try {
        expect(opened.trouble(), `bit ${bit}`).toBeUndefined();
        expect((await opened.store.list("")).length, `bit ${bit}`).toBe(entries.length);
        await opened.store.transact({ puts: [{ key: "after", value: 1 }] });
      } finally {
        await opened.store.close();
      }
    }
  });

  it("anywhere, by whatever: it opens, gives nothing that was never there, and takes changes", async () => {
    await closedStore();
    const [bytes, copy] = [readFileSync(path), readFileSync(`${path}.copy`)];
    const known = new Set(Array.from({ length: count }, (_, n) => name(n)));
    const damage = fc.record({
      at: fc.nat(bytes.length - 1),
      length: fc.constantFrom(1, 8, 64, 5_000),
      with: fc.constantFrom(0x00, 0x01, 0x80, 0xff),
      cut: fc.boolean(),
    });
    const check = async (damages: readonly { at: number; length: number; with: number; cut: boolean }[]) => {
      let broken = Buffer.from(bytes);
      for (const { at, length, with: mask, cut } of damages) {
        if (cut && length > 64) broken = broken.subarray(0, at);
        for (let n = at; n < Math.min(at + length, broken.length); n++) broken[n] = (broken[n] ?? 0) ^ mask;
      }
      for (const file of readdirSync(directory)) rmSync(join(directory, file));
      writeFileSync(path, broken);
      writeFileSync(`${path}.copy`, copy);
      const { store } = await openLocalStore(path);
      try {
        const found = await store.list("k/");
        // A key whose bits were flipped is another key: there is no checksum, and no more of them than there were.
        expect(found.length).toBeLessThanOrEqual(count - removed);
        if (damages.every(({ length }) => length > 64))
          expect(found.filter(({ key }) => known.has(key)).length).toBe(found.length);
        await store.transact({ puts: [{ key: "after", value: 1 }] });
        expect((await store.get("after"))?.value).toBe(1);
      } finally {
        await store.close();
      }
    };
    await fc.assert(fc.asyncProperty(fc.array(damage, { minLength: 1, maxLength: 3 }), check), { numRuns: runs(25) });
  });

  it("one value whose bits are flipped makes no other unreadable", async () => {
    const entries = await closedStore();
    const bytes = readFileSync(path);
    const at = bytes.indexOf('{"n":250,');
    bytes.fill("?", at, at + 9);
    writeFileSync(path, bytes);
    const { store, replaced } = await openLocalStore(path);
    expect(replaced).toBeUndefined();
    const found = await store.list("");
    expect(found).toHaveLength(entries.length);
    expect(found.filter(({ value }) => value === null).map(({ key }) => key)).toEqual([name(250)]);
    await store.close();
  });

  it("again and again leaves a bounded number of files", async () => {
    for (let n = 0; n < 5; n++) {
      writeFileSync(path, `garbage ${n} `.repeat(1000));
      const { store } = await openLocalStore(path);
      await store.close();
    }
    expect(readdirSync(directory).length).toBeLessThanOrEqual(6);
  });
});

describe("a write-ahead log", () => {
  /** Files as a crash leaves them, of a store that had committed `k/0000` to `k/0399`. */
  const crashed = async () => {
    const elsewhere = join(directory, "crashed");
    mkdirSync(elsewhere);
    const store = await SqliteStore.open(path);
    for (let n = 0; n < 20; n++) await store.transact({ puts: [{ key: name(n), value: n }] });
    for (const suffix of ["", "-wal"]) copyFileSync(path + suffix, join(elsewhere, `dnet.db${suffix}`));
    await store.close();
    return join(elsewhere, "dnet.db");
  };
  const change = (file: string, work: (bytes: Buffer) => Buffer) => writeFileSync(file, work(readFileSync(file)));

  it("that a crash left is read to its end, and nothing is said", async () => {
    const file = await crashed();
    const { store, replaced } = await openLocalStore(file);
    expect(replaced).toBeUndefined();
    expect(await store.list("k/")).toHaveLength(20);
    await store.close();
  });

  it("whose last transaction was torn is read up to that, and nothing is said: it was not acknowledged", async () => {
    const file = await crashed();
    change(`${file}-wal`, (bytes) => bytes.subarray(0, bytes.length - 1000));
    const { store, replaced } = await openLocalStore(file);
    expect(replaced).toBeUndefined();
    expect((await store.list("k/")).length).toBeGreaterThanOrEqual(19);
    await store.close();
  });

  it.each([
    ["in the middle", 0.5],
    ["at its beginning", 0],
  ])("whose bits were flipped %s has lost what was acknowledged: that is told", async (_where, part) => {
    const file = await crashed();
    change(`${file}-wal`, (bytes) => {
      const at = Math.floor(bytes.length * part);
      for (let n = at; n < at + 32; n++) bytes[n] = (bytes[n] ?? 0) ^ 0x5a;
      return bytes;
    });
    const { store, replaced } = await openLocalStore(file);
    expect(replaced).toMatchObject({ by: "part", reason: expect.stringContaining("write-ahead log") });
    expect((await store.list("k/")).length).toBeLessThan(20);
    expect(statSync(`${replaced?.aside}-wal`).size).toBeGreaterThan(0);
    await store.close();
  });
});
