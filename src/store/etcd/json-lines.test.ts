import { Readable } from "node:stream";
import * as fc from "fast-check";
import { expect, it } from "vitest";
import { jsonLines } from "./json-lines.ts";

const all = async (chunks: readonly Buffer[]) => {
  const values: unknown[] = [];
  for await (const value of jsonLines(Readable.from(chunks, { objectMode: true }))) values.push(value);
  return values;
};

it("reads the same values however the stream is cut", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.jsonValue()), fc.array(fc.nat(200)), async (values, cuts) => {
      const bytes = Buffer.from(values.map((value) => `${JSON.stringify(value)}\n`).join(""));
      const at = [...new Set(cuts.filter((cut) => cut < bytes.length))].sort((a, b) => a - b);
      const chunks = [0, ...at].map((from, n) => bytes.subarray(from, at[n] ?? bytes.length));
      expect(JSON.stringify(await all(chunks))).toBe(JSON.stringify(values));
    }),
  );
});

it("refuses a line that is no JSON, and one that does not end", async () => {
  await expect(all([Buffer.from("{}\n{")])).resolves.toEqual([{}]);
  await expect(all([Buffer.from("{\n")])).rejects.toThrow("a line that is no JSON");
  const chunk = Buffer.alloc(1024 * 1024, "[");
  await expect(all(Array.from({ length: 17 }, () => chunk))).rejects.toThrow("a line longer than");
});
