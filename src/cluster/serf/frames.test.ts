import { encode } from "@msgpack/msgpack";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { runs } from "../../../test/runs.ts";
import { NetworkError } from "../../errors.ts";
import { FrameReader, objectEnd } from "./frames.ts";

const value = fc.letrec<{ any: unknown }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom(null, true, false),
    fc.integer(),
    fc.maxSafeInteger(),
    fc.double({ noNaN: true }),
    fc.uint8Array({ maxLength: 300 }),
    fc.array(tie("any"), { maxLength: 20 }),
    fc.dictionary(
      fc.string({ maxLength: 40 }).filter((key) => key !== "__proto__"),
      tie("any"),
      { maxKeys: 20 },
    ),
  ),
})).any;
const plain = (object: unknown): unknown => JSON.parse(JSON.stringify(object));

describe("a stream of MessagePack", () => {
  it("gives its objects, however it is cut", () => {
    fc.assert(
      fc.property(fc.array(value, { maxLength: 8 }), fc.array(fc.nat(50), { minLength: 1 }), (values, cuts) => {
        const bytes = Buffer.concat(values.map((each) => encode(each)));
        const reader = new FrameReader();
        const got: unknown[] = [];
        for (let at = 0, n = 0; at < bytes.length; n++) {
          const size = (cuts[n % cuts.length] ?? 0) + 1;
          got.push(...reader.push(bytes.subarray(at, at + size)));
          at += size;
        }
        // Both sides by way of JSON, where -0 is 0 and a Buffer its bytes.
        const bufferless = (list: readonly unknown[]) =>
          plain(list.map((each) => encode(each)).map((each) => [...each]));
        expect(bufferless(got)).toEqual(bufferless(values));
      }),
      { numRuns: runs(300) },
    );
  });

  it("of anything is objects or a typed error, and no length is believed", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 8 }), (chunks) => {
        const reader = new FrameReader();
        try {
          for (const chunk of chunks) reader.push(Buffer.from(chunk));
        } catch (error) {
          expect(error).toBeInstanceOf(NetworkError);
        }
      }),
      { numRuns: runs(3_000) },
    );
  });

  it.each([
    ["an array of 2^32 elements", [0xdd, 0xff, 0xff, 0xff, 0xff]],
    ["a map of 2^31 pairs", [0xdf, 0x80, 0x00, 0x00, 0x00]],
    ["a blob of 4 GiB", [0xc6, 0xff, 0xff, 0xff, 0xff, 0x00]],
    ["a blob just too long", [0xc6, 0x01, 0x00, 0x00, 0x01]],
    ["the byte that nothing begins with", [0xc1]],
    ["an extension", [0xc7, 0x01, 0x05, 0x00]],
    ["40 arrays in one another", Array.from({ length: 40 }, () => 0x91)],
  ])("%s is refused", (_, bytes) => {
    expect(() => new FrameReader().push(Buffer.from(bytes))).toThrow("serf's answer is malformed");
  });

  it("counts a whole object only", () => {
    const bytes = Buffer.from(encode({ a: [1, "x".repeat(40), { b: new Uint8Array(300) }] }));
    expect(objectEnd(bytes, 0)).toBe(bytes.length);
    for (let n = 0; n < bytes.length; n++) expect(objectEnd(bytes.subarray(0, n), 0)).toBeUndefined();
  });
});
