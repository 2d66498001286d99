import { createHash } from "node:crypto";
import { badRequest, forbidden } from "../../errors.ts";
import { type Ip, ipFromBigInt, ipToBigInt } from "../../net/ip.ts";
import {
  type InterfaceAddress,
  lengthOf,
  makePrefix,
  type Prefix,
  parsePrefix,
  prefixContains,
  prefixCovers,
  prefixesOverlap,
  prefixFamily,
  prefixRange,
  withLength,
} from "../../net/prefix.ts";
import type { AddressRequest, AddressSet, AddressSpace, Ipam, Pool, PoolContext, PoolRequest } from "../ipam.ts";
import { defaultPools } from "./default-pools.ts";

/** Shortest and longest prefix of a pool: below, it would swallow half the Internet; above, nothing is left for endpoints. */
const lengths = { 4: [8, 30], 6: [32, 126] } as const;
const ulaPools = 65536;

/** What no interface may carry: "this network" and loopback (RFC 1122 3.2.1.3), multicast (RFC 5771, RFC 4291 2.5 and 2.7). */
const reserved: readonly Prefix[] = ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "::/96", "ff00::/8"].map((text) =>
  parsePrefix(text),
);

/** The address management of the original: defaults in order, lowest free address first; every choice a pure decision. */
export class DefaultIpam implements Ipam {
  readonly #ula: Prefix | undefined;

  /** @param options.ula a /48 of unique local addresses (RFC 4193) for default IPv6 pools; without it there are none */
  constructor(options: { readonly ula?: Prefix } = {}) {
    this.#ula = options.ula;
  }

  choosePool(request: PoolRequest, context: PoolContext): Pool {
    const { family, space, range } = request;
    if (request.pool === undefined) {
      if (range !== undefined) {
        throw badRequest("range-without-pool", `invalid ip-range: ${range} needs the subnet that it is a part of`, {
          hint: "give --subnet too",
        });
      }
      return { pool: this.#defaultPool(family, space, context) };
    }
    const { pool } = request;
    const [shortest, longest] = lengths[family];
    if (lengthOf(pool) < shortest || lengthOf(pool) > longest) {
      throw badRequest(
        "invalid-pool",
        `invalid subnet: ${pool} must have a length between /${shortest} and /${longest}`,
      );
    }
    const never = reserved.find((prefix) => prefixesOverlap(pool, prefix));
    if (never !== undefined) {
      throw badRequest("invalid-pool", `invalid subnet: ${pool} overlaps ${never}, whose addresses no host can have`);
    }
    const other = context.pools.find((taken) => prefixesOverlap(pool, taken));
    if (other !== undefined) {
      throw forbidden("pool-overlaps", "Pool overlaps with other one on this address space", {
        hint: `${pool} overlaps ${other}, which another network has`,
      });
    }
    if (range !== undefined && !prefixCovers(pool, range)) {
      throw badRequest("range-outside", `invalid ip-range: ${range} is not a part of subnet ${pool}`);
    }
    return { pool, ...(range !== undefined && { range }) };
  }

  #defaultPool(family: 4 | 6, space: AddressSpace, { pools, avoid }: PoolContext): Prefix {
    const taken = [...pools, ...avoid].filter((prefix) => prefixFamily(prefix) === family);
    // Most are whole default pools: a look in a set spares the comparison with every one of them.
    const exact = new Set<string>(taken);
    const odd = taken.filter((prefix) => !isDefault(prefix, family, space));
    for (const pool of family === 4 ? defaultPools[space] : this.#ulas()) {
      if (!exact.has(pool) && !odd.some((prefix) => prefixesOverlap(pool, prefix))) return pool;
    }
    throw forbidden(
      "pools-exhausted",
      `could not find an available, non-overlapping IPv${family} address pool among the defaults to assign to the network`,
      { hint: "give one with --subnet" },
    );
  }

  *#ulas(): Iterable<Prefix> {
    if (this.#ula === undefined) return;
    const { first } = prefixRange(this.#ula);
    for (let n = 0; n < ulaPools; n++) yield makePrefix(ipFromBigInt(first + (BigInt(n) << 64n), 6), 64);
  }

  chooseAddress(request: AddressRequest, taken: AddressSet): InterfaceAddress {
    const { pool, range = pool, address } = request;
    const family = prefixFamily(pool);
    const { first, last } = usable(pool);
    if (address !== undefined) {
      if (!prefixContains(pool, address)) {
        throw badRequest("address-outside", `invalid address: ${address} is not in subnet ${pool}`);
      }
      const value = ipToBigInt(address);
      if (value < first || value > last) {
        throw badRequest(
          "address-reserved",
          `invalid address: ${address} is the network or broadcast address of ${pool}`,
        );
      }
      if (taken.has(address)) {
        throw forbidden("address-in-use", "Address already in use", { hint: `${address} of subnet ${pool} is taken` });
      }
      return withLength(address, lengthOf(pool));
    }
    const part = prefixRange(range);
    const found = taken.lowestFree(larger(part.first, first), smaller(part.last, last));
    if (found === undefined) {
      throw forbidden(
        "addresses-exhausted",
        `no available IPv${family} addresses on this network's address pools: ${range}`,
        {
          hint: "unpublish services that are not needed, or make a network with a larger --subnet",
        },
      );
    }
    return withLength(ipFromBigInt(found, family), lengthOf(pool));
  }
}

// Math.max has no say over bigints.
const larger = (a: bigint, b: bigint): bigint => {
  if (a > b) return a;
  return b;
};
const smaller = (a: bigint, b: bigint): bigint => {
  if (a < b) return a;
  return b;
};

/** Without the network address and, in IPv4, the broadcast address. */
const usable = (pool: Prefix): { readonly first: bigint; readonly last: bigint } => {
  const { first, last } = prefixRange(pool);
  return { first: first + 1n, last: prefixFamily(pool) === 4 ? last - 1n : last };
};

const defaultLengths = { local: [16, 20], global: [24] } as const;

/** True where a prefix can only be equal to a default pool or apart from all: of the same length, aligned the same way. */
const isDefault = (prefix: Prefix, family: 4 | 6, space: AddressSpace): boolean => {
  if (family === 6) return lengthOf(prefix) === 64;
  const known: readonly number[] = defaultLengths[space];
  return known.length === 1 && lengthOf(prefix) === known[0];
};

/** A /48 of unique local addresses that stays the same for one host (RFC 4193 3.2.2, from a seed in place of the clock). */
export const ulaOf = (seed: string): Prefix => {
  const bytes = createHash("sha256").update(seed).digest();
  const value = (0xfdn << 120n) | (BigInt(`0x${bytes.subarray(0, 5).toString("hex")}`) << 80n);
  return makePrefix(ipFromBigInt(value, 6) as Ip, 48);
};
