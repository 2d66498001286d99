import { badRequest, shown } from "../errors.ts";
import { bitsOf, type Family, familyOf, type Ip, ipFromBigInt, ipToBigInt, tryParseIp } from "./ip.ts";

declare const brand: unique symbol;
/** A network prefix in canonical text, host bits zero: `10.0.0.0/24`. */
export type Prefix = string & { readonly [brand]: "prefix" };
/** An address with the length of its network, as an interface carries it: `10.0.0.2/24`. */
export type InterfaceAddress = string & { readonly [brand]: "interface-address" };

const split = (text: string): { ip: Ip; length: number } | undefined => {
  const match = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(text);
  const ip = match?.[1] === undefined ? undefined : tryParseIp(match[1]);
  const length = Number(match?.[2]);
  return ip === undefined || length > bitsOf(familyOf(ip)) ? undefined : { ip, length };
};

/** A prefix from an address and a length; host bits are cleared. */
export const makePrefix = (ip: Ip, length: number): Prefix => {
  const family = familyOf(ip);
  if (length === bitsOf(family)) return `${ip}/${length}` as Prefix;
  const host = BigInt(bitsOf(family) - length);
  return `${ipFromBigInt((ipToBigInt(ip) >> host) << host, family)}/${length}` as Prefix;
};

/** Parses `a.b.c.d/n`, clearing host bits; undefined where it is no prefix. */
export const tryParsePrefix = (text: string): Prefix | undefined => {
  const parts = split(text);
  return parts && makePrefix(parts.ip, parts.length);
};

/** @throws NetworkError `invalid-prefix` (bad request) that names the field */
export const parsePrefix = (text: string, field = "prefix"): Prefix => {
  const prefix = tryParsePrefix(text);
  if (prefix === undefined) {
    throw badRequest("invalid-prefix", `invalid ${field}: ${shown(text)} is not a network in CIDR form`);
  }
  return prefix;
};

/** @throws NetworkError `invalid-prefix` (bad request) */
export const parseInterfaceAddress = (text: string, field = "address"): InterfaceAddress => {
  const parts = split(text);
  if (!parts) throw badRequest("invalid-prefix", `invalid ${field}: ${shown(text)} is not an address in CIDR form`);
  return `${parts.ip}/${parts.length}` as InterfaceAddress;
};

export const withLength = (ip: Ip, length: number): InterfaceAddress => `${ip}/${length}` as InterfaceAddress;
export const addressOf = (address: Prefix | InterfaceAddress): Ip => address.slice(0, address.indexOf("/")) as Ip;
export const lengthOf = (address: Prefix | InterfaceAddress): number => Number(address.slice(address.indexOf("/") + 1));
export const prefixOf = (address: InterfaceAddress): Prefix => makePrefix(addressOf(address), lengthOf(address));
export const prefixFamily = (prefix: Prefix | InterfaceAddress): Family => familyOf(addressOf(prefix));

/** Parsing IPv6 costs more than all that is done with it, and the same few prefixes are compared again and again. */
const ranges = new Map<Prefix, { readonly first: bigint; readonly last: bigint }>();
const maxRanges = 4096;

/** First and last address as integers, both inclusive. */
export const prefixRange = (prefix: Prefix): { readonly first: bigint; readonly last: bigint } => {
  const known = ranges.get(prefix);
  if (known) return known;
  const first = ipToBigInt(addressOf(prefix));
  const range = { first, last: first + (1n << BigInt(bitsOf(prefixFamily(prefix)) - lengthOf(prefix))) - 1n };
  if (ranges.size >= maxRanges) ranges.clear();
  ranges.set(prefix, range);
  return range;
};

export const prefixContains = (prefix: Prefix, ip: Ip): boolean => {
  if (prefixFamily(prefix) !== familyOf(ip)) return false;
  const { first, last } = prefixRange(prefix);
  const value = ipToBigInt(ip);
  return first <= value && value <= last;
};

/** True where every address of `inner` is in `outer`. */
export const prefixCovers = (outer: Prefix, inner: Prefix): boolean => {
  if (prefixFamily(outer) !== prefixFamily(inner)) return false;
  const [out, inside] = [prefixRange(outer), prefixRange(inner)];
  return out.first <= inside.first && inside.last <= out.last;
};

export const prefixesOverlap = (a: Prefix, b: Prefix): boolean => prefixCovers(a, b) || prefixCovers(b, a);
