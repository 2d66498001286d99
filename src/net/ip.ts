import { Address6 } from "ip-address";
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

// The library knows every way to write an IPv6 address, and takes its time; a host with 200 networks has 2,000 in their one form.

/** The eight groups of a canonical IPv6 address. */
const groupsOf = (ip: Ip): readonly number[] => {
  const [before = "", after] = ip.split("::");
  const groups = (text: string): number[] =>
    text === "" ? [] : text.split(":").map((group) => Number.parseInt(group, 16));
  const [left, right] = [groups(before), groups(after ?? "")];
  return [...left, ...new Array<number>(8 - left.length - right.length).fill(0), ...right];
};

/** RFC 5952: the first of the longest runs of zero groups, of two or more, is `::`. */
const textOf = (groups: readonly number[]): Ip => {
  let [at, length] = [0, 1];
  for (let from = 0; from < 8; from++) {
    let end = from;
    while (end < 8 && groups[end] === 0) end++;
    if (end - from > length) [at, length] = [from, end - from];
    from = Math.max(from, end);
  }
  const text = (part: readonly number[]) => part.map((group) => group.toString(16)).join(":");
  return (length < 2 ? text(groups) : `${text(groups.slice(0, at))}::${text(groups.slice(at + length))}`) as Ip;
};

/** The address as an unsigned integer of 32 or 128 bits. */
export const ipToBigInt = (ip: Ip): bigint => {
  if (familyOf(ip) === 6) return BigInt(`0x${ipToBytes(ip).toString("hex")}`);
  let value = 0;
  for (const part of ip.split(".")) value = value * 256 + Number(part);
  return BigInt(value);
};

/** @throws RangeError where the value does not fit the family */
export const ipFromBigInt = (value: bigint, family: Family): Ip => {
  if (value < 0n || value >> BigInt(bitsOf(family)) !== 0n)
    throw new RangeError(`${value} is not an IPv${family} address`);
  if (family === 6) return ipFromBytes(Buffer.from(value.toString(16).padStart(32, "0"), "hex"));
  const n = Number(value);
  return `${n >>> 24}.${(n >>> 16) & 255}.${(n >>> 8) & 255}.${n & 255}` as Ip;
};

/** Network byte order, 4 or 16 bytes. */
export const ipToBytes = (ip: Ip): Buffer => {
  if (familyOf(ip) === 4) return Buffer.from(ip.split(".").map(Number));
  const bytes = Buffer.alloc(16);
  for (const [n, group] of groupsOf(ip).entries()) bytes.writeUInt16BE(group, 2 * n);
  return bytes;
};

/** @throws RangeError where there are not 4 or 16 bytes */
export const ipFromBytes = (bytes: Uint8Array): Ip => {
  if (bytes.length === 4) return bytes.join(".") as Ip;
  if (bytes.length !== 16) throw new RangeError(`an address has 4 or 16 bytes, not ${bytes.length}`);
  return textOf(Array.from({ length: 8 }, (_, n) => ((bytes[2 * n] ?? 0) << 8) | (bytes[2 * n + 1] ?? 0)));
};

/** The name that a PTR query asks for: `2.0.17.172.in-addr.arpa` or the nibbles under `ip6.arpa` (RFC 1035 3.5, RFC 3596 2.5). */
export const reverseName = (ip: Ip): string => {
  if (familyOf(ip) === 4) return `${ip.split(".").reverse().join(".")}.in-addr.arpa`;
  return `${[...ipToBytes(ip).toString("hex")].reverse().join(".")}.ip6.arpa`;
};
