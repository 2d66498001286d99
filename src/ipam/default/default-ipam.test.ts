import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { runs } from "../../../test/runs.ts";
import { NetworkError } from "../../errors.ts";
import { type Ip, ipFromBigInt, parseIp } from "../../net/ip.ts";
import { addressOf, type Prefix, parsePrefix, prefixesOverlap, prefixRange } from "../../net/prefix.ts";
import { NullIpam } from "../null/null-ipam.ts";
import { DefaultIpam, ulaOf } from "./default-ipam.ts";
import { defaultPools } from "./default-pools.ts";
import { SparseAddressSet } from "./sparse-address-set.ts";

const ipam = new DefaultIpam();
const pool = (text: string): Prefix => parsePrefix(text);
const nothing = { pools: [], avoid: [] };

describe("SparseAddressSet", () => {
  it.each([4, 6] as const)("is a set with a lowest free member (IPv%i), against a naive model", (family) => {
    const base = family === 4 ? 0x0a000000n : 0xfd00n << 112n;
    const offset = fc.bigInt(0n, 4200n);
    const ips = Array.from({ length: 4201 }, (_, n) => ipFromBigInt(base + BigInt(n), family));
    const step = fc.record({ kind: fc.constantFrom("add", "delete", "fill", "lowest"), a: offset, b: offset });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const set = new SparseAddressSet();
        const model = new Set<bigint>();
        const ip = (value: bigint) => ips[Number(value)]!;
        for (const { kind, a, b } of steps) {
          if (kind === "add") {
            set.add(ip(a));
            model.add(a);
          } else if (kind === "delete") {
            set.delete(ip(a));
            model.delete(a);
          } else if (kind === "fill") {
            for (let n = a; n <= b; n++) {
              set.add(ip(n));
              model.add(n);
            }
          } else {
            let expected: bigint | undefined;
            for (let n = a; n <= b && expected === undefined; n++) if (!model.has(n)) expected = n;
            const found = set.lowestFree(base + a, base + b);
            expect(found).toBe(expected === undefined ? undefined : base + expected);
          }
          expect(set.has(ip(a))).toBe(model.has(a));
        }
      }),
      { numRuns: runs(200) },
    );
  });
});

describe("pools", () => {
  it("37, for-linux 599: are the original's defaults, in order, apart from what is taken or to be kept clear of", () => {
    const taken: Prefix[] = [];
    for (const expected of ["172.17.0.0/16", "172.18.0.0/16"]) {
      const chosen = ipam.choosePool({ family: 4, space: "local" }, { pools: taken, avoid: [] });
      expect(chosen).toEqual({ pool: expected });
      taken.push(chosen.pool);
    }
    const avoid = [pool("172.19.3.0/24"), pool("172.20.0.0/14"), pool("10.0.0.1/32")];
    expect(ipam.choosePool({ family: 4, space: "local" }, { pools: taken, avoid }).pool).toBe("172.24.0.0/16");
    expect(ipam.choosePool({ family: 4, space: "global" }, { pools: [], avoid }).pool).toBe("10.0.1.0/24");
    expect(ipam.choosePool({ family: 4, space: "global" }, { pools: [pool("10.0.0.0/9")], avoid: [] }).pool).toBe(
      "10.128.0.0/24",
    );
  });
  it("run out with the original's text, and one given back is given out again", () => {
    const all = defaultPools.local;
    expect(all).toHaveLength(31);
    expect(() => ipam.choosePool({ family: 4, space: "local" }, { pools: all, avoid: [] })).toThrow(
      "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
    );
    const back = all.filter((prefix) => prefix !== "172.30.0.0/16");
    expect(ipam.choosePool({ family: 4, space: "local" }, { pools: back, avoid: [] }).pool).toBe("172.30.0.0/16");
  });
  it("never overlap, whatever is asked for", () => {
    const any = fc.constantFrom<string | undefined>(
      ...[undefined, undefined, "172.18.0.0/15", "192.168.4.0/24", "10.0.0.0/8", "172.20.1.0/30", "192.168.0.0/16"],
    );
    fc.assert(
      fc.property(fc.array(any, { maxLength: 45 }), (asked) => {
        const taken: Prefix[] = [];
        for (const text of asked) {
          try {
            const request = { family: 4, space: "local", ...(text !== undefined && { pool: pool(text) }) } as const;
            const chosen = ipam.choosePool(request, { pools: taken, avoid: [] }).pool;
            expect(taken.some((other) => prefixesOverlap(other, chosen))).toBe(false);
            taken.push(chosen);
          } catch (error) {
            if (!(error instanceof NetworkError)) throw error;
            const free = defaultPools.local.some((p) => !taken.some((other) => prefixesOverlap(other, p)));
            if (text === undefined) expect(free).toBe(false);
            else expect(taken.some((other) => prefixesOverlap(other, pool(text)))).toBe(true);
          }
        }
      }),
    );
  });
  it("asked for are refused when they overlap, are too large or too small, or do not hold their range", () => {
    const ask = (text: string, range?: string, pools: readonly Prefix[] = []) =>
      ipam.choosePool(
        { family: 4, space: "local", pool: pool(text), ...(range !== undefined && { range: pool(range) }) },
        { pools, avoid: [pool("10.0.0.0/8")] },
      );
    expect(ask("10.50.0.0/16", "10.50.1.0/24")).toEqual({ pool: "10.50.0.0/16", range: "10.50.1.0/24" });
    expect(() => ask("10.1.0.0/16", undefined, [pool("10.1.128.0/24")])).toThrow(
      "Pool overlaps with other one on this address space",
    );
    expect(() => ask("10.88.0.0/16", "10.99.0.0/24")).toThrow("invalid ip-range: 10.99.0.0/24 is not a part of subnet");
    for (const bad of ["10.0.0.0/31", "10.0.0.0/7", "0.0.0.0/0"]) expect(() => ask(bad)).toThrow("invalid subnet");
    expect(() => ipam.choosePool({ family: 4, space: "local", range: pool("10.9.0.0/24") }, nothing)).toThrow(
      "needs the subnet",
    );
  });
  it.each(["0.0.0.0/8", "127.1.0.0/16", "224.0.0.0/24", "239.1.0.0/16", "::/64", "ff02::/64"])(
    "asked for are refused where no host can have their addresses: %s",
    (text) => {
      const family = text.includes(":") ? 6 : 4;
      expect(() => ipam.choosePool({ family, space: "local", pool: pool(text) }, nothing)).toThrow(
        `invalid subnet: ${text} overlaps`,
      );
    },
  );
  it("of IPv6 come from a unique local /48 of the host, where there is one", () => {
    expect(() => ipam.choosePool({ family: 6, space: "local" }, nothing)).toThrow(
      "IPv6 address pool among the defaults",
    );
    const ula = ulaOf("host");
    expect(ula).toMatch(/^fd.*\/48$/);
    expect(ulaOf("host")).toBe(ula);
    const six = new DefaultIpam({ ula });
    const first = six.choosePool({ family: 6, space: "local" }, nothing).pool;
    expect(first.startsWith(ula.slice(0, -5).replace(/:+$/, ""))).toBe(true);
    const second = six.choosePool({ family: 6, space: "local" }, { pools: [first], avoid: [] }).pool;
    expect(second).not.toBe(first);
  });
});

describe("addresses", () => {
  it.each(["10.9.0.0/28", "fd00:9::/124"])(
    "are the lowest free ones of %s; none leaks, none is given twice",
    (text) => {
      const subnet = pool(text);
      const four = !text.includes(":");
      fc.assert(
        fc.property(fc.array(fc.oneof(fc.constant("take"), fc.constant("crash"), fc.nat(20))), (steps) => {
          let owned: Ip[] = [];
          let set = new SparseAddressSet();
          const { first, last } = prefixRange(subnet);
          for (const step of steps) {
            if (step === "crash") {
              // What is owned is all there is: the set is derived from it.
              set = new SparseAddressSet();
              for (const ip of owned) set.add(ip);
            } else if (typeof step === "number") {
              const [released] = owned.splice(step % Math.max(1, owned.length), 1);
              if (released !== undefined) set.delete(released);
            } else {
              let expected: string | undefined;
              for (let n = first + 1n; n <= (four ? last - 1n : last) && expected === undefined; n++) {
                const ip = ipFromBigInt(n, four ? 4 : 6);
                if (!owned.includes(ip)) expected = ip;
              }
              if (expected === undefined) {
                expect(() => ipam.chooseAddress({ pool: subnet }, set)).toThrow(/no available IPv[46] addresses/);
              } else {
                const chosen = addressOf(ipam.chooseAddress({ pool: subnet }, set));
                expect(chosen).toBe(expected);
                owned = [...owned, chosen];
                set.add(chosen);
              }
            }
          }
        }),
      );
    },
  );
  it("come from the range but carry the subnet's length", () => {
    const set = new SparseAddressSet();
    expect(ipam.chooseAddress({ pool: pool("10.50.0.0/16"), range: pool("10.50.1.0/24") }, set)).toBe("10.50.1.0/16");
  });
  it("asked for are refused when taken, outside, or no host's", () => {
    const set = new SparseAddressSet();
    const subnet = pool("10.50.0.0/16");
    const ask = (text: string) => ipam.chooseAddress({ pool: subnet, address: parseIp(text) }, set);
    expect(ask("10.50.3.3")).toBe("10.50.3.3/16");
    set.add(parseIp("10.50.3.3"));
    expect(() => ask("10.50.3.3")).toThrow("Address already in use");
    expect(() => ask("10.51.0.1")).toThrow("is not in subnet");
    for (const bad of ["10.50.0.0", "10.50.255.255"]) expect(() => ask(bad)).toThrow("network or broadcast address");
  });
});

it("NullIpam gives nothing", () => {
  expect(new NullIpam().choosePool()).toBeUndefined();
  expect(new NullIpam().chooseAddress()).toBeUndefined();
});
