import fc from "fast-check";
import { Address6 } from "ip-address";
import { describe, expect, it } from "vitest";
import { familyOf, ipFromBigInt, ipFromBytes, ipToBigInt, ipToBytes, parseIp, reverseName, tryParseIp } from "./ip.ts";
import { macFromIp, parseMac } from "./mac.ts";
import {
  makePrefix,
  parsePrefix,
  prefixContains,
  prefixCovers,
  prefixesOverlap,
  prefixRange,
  tryParsePrefix,
} from "./prefix.ts";

const ip4 = fc.bigInt({ min: 0n, max: 0xffff_ffffn }).map((value) => ipFromBigInt(value, 4));
const ip6 = fc
  .bigInt({ min: 0n, max: (1n << 128n) - 1n })
  .filter((value) => value >> 32n !== 0xffffn)
  .map((value) => ipFromBigInt(value, 6));

describe("addresses", () => {
  it("round-trip through integers, bytes and text", () => {
    fc.assert(
      fc.property(fc.oneof(ip4, ip6), (ip) => {
        expect(parseIp(ip)).toBe(ip);
        expect(ipFromBigInt(ipToBigInt(ip), familyOf(ip))).toBe(ip);
        expect(ipFromBytes(ipToBytes(ip))).toBe(ip);
      }),
    );
  });

  it("are written as the library writes them, wherever the noughts are", () => {
    const group = fc.oneof(fc.constant(0), fc.constantFrom(1, 0xffff), fc.nat(0xffff));
    fc.assert(
      fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
        const bytes = Buffer.alloc(16);
        for (const [n, each] of groups.entries()) bytes.writeUInt16BE(each, 2 * n);
        const expected = Address6.fromByteArray([...bytes]);
        const ip = ipFromBytes(bytes);
        expect(ip).toBe(expected.correctForm());
        expect(ipToBigInt(ip)).toBe(expected.bigInt());
        expect(ipToBytes(ip).equals(bytes)).toBe(true);
      }),
      { numRuns: 1_000 },
    );
  });

  it("are canonical whatever the spelling", () => {
    expect(parseIp("2001:DB8:0:0::1")).toBe("2001:db8::1");
  });

  it.each([
    "",
    "10.0.0",
    "10.0.0.256",
    "010.0.0.1",
    "10.0.0.1/8",
    "::1%eth0",
    "::ffff:10.0.0.1",
    "1.2.3.4.5",
    "a b",
    "10.0.0.1\0",
    ":::",
  ])("refuse %j", (text) => {
    expect(tryParseIp(text)).toBeUndefined();
    expect(() => parseIp(text, "gateway")).toThrow(/invalid gateway/);
  });

  it("name their PTR record", () => {
    expect(reverseName(parseIp("172.17.0.2"))).toBe("2.0.17.172.in-addr.arpa");
    expect(reverseName(parseIp("2001:db8::1"))).toBe(`1.${"0.".repeat(23)}8.b.d.0.1.0.0.2.ip6.arpa`);
  });
});

describe("prefixes", () => {
  it("clear host bits", () => expect(parsePrefix("10.1.2.3/8")).toBe("10.0.0.0/8"));

  it("contain exactly their range", () => {
    fc.assert(
      fc.property(ip4, fc.integer({ min: 0, max: 32 }), ip4, (base, length, other) => {
        const prefix = makePrefix(base, length);
        const { first, last } = prefixRange(prefix);
        const value = ipToBigInt(other);
        expect(prefixContains(prefix, other)).toBe(first <= value && value <= last);
        expect(prefixContains(prefix, base)).toBe(true);
      }),
    );
  });

  it("overlap when one covers the other, never across families", () => {
    expect(prefixesOverlap(parsePrefix("10.0.0.0/8"), parsePrefix("10.9.0.0/16"))).toBe(true);
    expect(prefixesOverlap(parsePrefix("10.8.0.0/16"), parsePrefix("10.9.0.0/16"))).toBe(false);
    expect(prefixesOverlap(parsePrefix("0.0.0.0/0"), parsePrefix("::/0"))).toBe(false);
    expect(prefixCovers(parsePrefix("10.9.0.0/16"), parsePrefix("10.0.0.0/8"))).toBe(false);
  });

  it.each(["10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/08", "::/129", "/8", "10.0.0.0/8/8"])(
    "refuse %j",
    (text) => {
      expect(tryParsePrefix(text)).toBeUndefined();
    },
  );
});

describe("MACs", () => {
  it("derive from the address", () => expect(macFromIp(parseIp("10.0.2.3"))).toBe("02:42:0a:00:02:03"));
  it("are canonical", () => expect(parseMac("02-42-AA-BB-CC-DD")).toBe("02:42:aa:bb:cc:dd"));
  it.each(["", "02:42", "01:00:00:00:00:00", "00:00:00:00:00:00", "02:42:aa:bb:cc:dg"])("refuse %j", (text) => {
    expect(() => parseMac(text)).toThrow(/unicast/);
  });
});
