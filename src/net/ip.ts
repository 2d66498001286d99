import { Address4, Address6 } from "ip-address";
import { badRequest, shown } from "../errors.ts";

declare const brand: unique symbol;
/** An IP address in canonical text (`10.0.0.1`, RFC 5952 `2001:db8::1`): two equal addresses are equal strings. */
export type Ip = string & { readonly [brand]: "ip" };
export type Family = 4 | 6;

const strict4 = /^(0|[1-9]\d{0,2})(\.(0|[1-9]\d{0,2})){3}$/;

/**
 * Parses an address. IPv4-mapped IPv6 (`::ffff:a.b.c.d`), zones, leading zeros (octal to some parsers) and masks are refused.
 * @param field what the value was given for, named in the error
 * @throws NetworkError `invalid-address` (bad request)
 */
export const parseIp = (text: string, field = "address"): Ip => {
  const ip = tryParseIp(text);
  if (ip === undefined) throw badRequest("invalid-address", `invalid ${field}: ${shown(text)} is not an IP address`);
  return ip;
};

/** `parseIp` without the error: undefined where the text is no address. */
export const tryParseIp = (text: string): Ip | undefined => {
  if (strict4.test(text)) return text.split(".").every((part) => Number(part) < 256) ? (text as Ip) : undefined;
  if (!text.includes(":") || text.length > 45 || !/^[0-9a-fA-F:.]+$/.test(text) || !Address6.isValid(text))
    return undefined;
  const address = new Address6(text);
  const value = address.bigInt();
  return value >> 32n === 0xffffn ? undefined : (address.correctForm() as Ip);
};

export const familyOf = (ip: Ip): Family => (ip.includes(":") ? 6 : 4);
export const bitsOf = (family: Family): 32 | 128 => (family === 4 ? 32 : 128);

/** The address as an unsigned integer of 32 or 128 bits. */
export const ipToBigInt = (ip: Ip): bigint => {
  if (familyOf(ip) === 6) return new Address6(ip).bigInt();
  let value = 0;
  for (const part of ip.split(".")) value = value * 256 + Number(part);
  return BigInt(value);
};

/** @throws RangeError where the value does not fit the family */
export const ipFromBigInt = (value: bigint, family: Family): Ip => {
  if (value < 0n || value >> BigInt(bitsOf(family)) !== 0n)
    throw new RangeError(`${value} is not an IPv${family} address`);
  if (family === 6) return Address6.fromBigInt(value).correctForm() as Ip;
  const n = Number(value);
  return `${n >>> 24}.${(n >>> 16) & 255}.${(n >>> 8) & 255}.${n & 255}` as Ip;
};

/** Network byte order, 4 or 16 bytes. */
export const ipToBytes = (ip: Ip): Buffer => {
  if (familyOf(ip) === 4) return Buffer.from(ip.split(".").map(Number));
  const bytes = Buffer.alloc(16);
  const value = ipToBigInt(ip);
  bytes.writeBigUInt64BE(value >> 64n, 0);
  bytes.writeBigUInt64BE(value & 0xffff_ffff_ffff_ffffn, 8);
  return bytes;
};

/** @throws RangeError where there are not 4 or 16 bytes */
export const ipFromBytes = (bytes: Uint8Array): Ip => {
  if (bytes.length === 4) return new Address4(bytes.join(".")).correctForm() as Ip;
  if (bytes.length !== 16) throw new RangeError(`an address has 4 or 16 bytes, not ${bytes.length}`);
  const view = Buffer.from(bytes);
  return ipFromBigInt((view.readBigUInt64BE(0) << 64n) | view.readBigUInt64BE(8), 6);
};

/** The name that a PTR query asks for: `2.0.17.172.in-addr.arpa` or the nibbles under `ip6.arpa` (RFC 1035 3.5, RFC 3596 2.5). */
export const reverseName = (ip: Ip): string => {
  if (familyOf(ip) === 4) return `${ip.split(".").reverse().join(".")}.in-addr.arpa`;
  return `${[...ipToBytes(ip).toString("hex")].reverse().join(".")}.ip6.arpa`;
};
