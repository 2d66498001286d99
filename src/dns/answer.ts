import { familyOf, type Ip, ipToBytes, tryParseIp } from "../net/ip.ts";
import type { Names } from "./name-table.ts";
import {
  classIn,
  clientPayload,
  encodeHeaderReply,
  encodeName,
  encodeReply,
  maxMessage,
  parseQuery,
  type Query,
  rcode,
  rrType,
} from "./packet.ts";

export type Transport = "udp" | "tcp";

/**
 * What becomes of a query: our reply, an upstream's, or none. `mayCome`: it asks for a name or address that is not known, and that
 * another host may have just given to an endpoint.
 */
export type Answer =
  | { readonly kind: "reply"; readonly reply: Buffer; readonly mayCome: boolean }
  | { readonly kind: "forward"; readonly query: Query; readonly mayCome: boolean }
  | { readonly kind: "drop" };

export interface AnswerOptions {
  /** Seconds that clients may keep an answer; 0 by default, because containers come and go. */
  readonly ttl?: number;
  readonly transport: Transport;
}

const drop: Answer = { kind: "drop" };

/** Answers a query from the names of a sandbox. Never throws, whatever the bytes. */
export const answerQuery = (packet: Buffer, names: Names, options: AnswerOptions): Answer => {
  const query = parseQuery(packet);
  if (query === "drop") return drop;
  if (query === "form-error") return headerReply(packet, rcode.formErr);
  if (query === "not-implemented") return headerReply(packet, rcode.notImp);
  const { name } = query;
  if (query.class !== classIn || name === undefined) return { kind: "forward", query, mayCome: false };
  const found = name.endsWith(".arpa") ? reverseRecords(query, name, names) : forwardRecords(query, name, names);
  const mayCome = (found === undefined || found === "unknown") && mayHaveCome(name, names);
  if (found === undefined) return { kind: "forward", query, mayCome };
  const limit = options.transport === "tcp" ? maxMessage : clientPayload(query);
  const { ttl = 0 } = options;
  if (query.edns && query.edns.version !== 0) return reply(packet, query, { rcode: rcode.badVers, limit });
  if (found === "unknown") return reply(packet, query, { rcode: rcode.nxDomain, limit }, mayCome);
  return reply(packet, query, { rcode: rcode.noError, records: found, ttl, limit });
};

const headerReply = (packet: Buffer, code: number): Answer => ({
  kind: "reply",
  reply: encodeHeaderReply(packet, code),
  mayCome: false,
});

/** A reply without records to a query that was to be forwarded: SERVFAIL, NXDOMAIN. */
export const refuseQuery = (packet: Buffer, query: Query, code: number): Buffer =>
  encodeReply(packet, query, { rcode: code, limit: maxMessage });

const reply = (packet: Buffer, query: Query, content: Parameters<typeof encodeReply>[2], mayCome = false): Answer => ({
  kind: "reply",
  reply: encodeReply(packet, query, content),
  mayCome,
});

type Found = readonly Buffer[] | "unknown" | undefined;

const forwardRecords = (query: Query, name: string, names: Names): Found => {
  const addresses = names.lookup(name);
  if (!addresses) return names.ownsName(name) ? "unknown" : undefined;
  const family = query.type === rrType.a ? 4 : query.type === rrType.aaaa ? 6 : undefined;
  if (family === undefined) return [];
  const records: Buffer[] = [];
  for (const ip of addresses) if (familyOf(ip) === family) records.push(addressBytes(ip));
  return records;
};

const reverseRecords = (query: Query, name: string, names: Names): Found => {
  const ip = addressOfReverse(name);
  if (ip === undefined) return undefined;
  const owners = names.reverse(ip);
  if (!owners) return names.ownsAddress(ip) ? "unknown" : undefined;
  if (query.type !== rrType.ptr) return [];
  return owners.map(encodeName).filter((encoded) => encoded !== undefined);
};

const mayHaveCome = (name: string, names: Names): boolean => {
  if (!name.endsWith(".arpa")) return names.mayHaveCome(name);
  const ip = addressOfReverse(name);
  return ip !== undefined && names.mayHaveComeTo(ip);
};

/** The address in `2.0.17.172.in-addr.arpa` or in 32 nibbles under `ip6.arpa`; undefined for zones and anything else. */
export const addressOfReverse = (name: string): Ip | undefined => {
  if (name.endsWith(".in-addr.arpa")) return tryParseIp(name.slice(0, -13).split(".").reverse().join("."));
  if (!/^(?:[0-9a-f]\.){32}ip6\.arpa$/.test(name)) return undefined;
  const nibbles = name.slice(0, 63).split(".").reverse().join("");
  return tryParseIp(nibbles.match(/.{4}/g)!.join(":"));
};

const encoded = new Map<Ip, Buffer>();
const maxEncoded = 4096;

/** The bytes of an address, remembered: they are asked for with every query. */
const addressBytes = (ip: Ip): Buffer => {
  const known = encoded.get(ip);
  if (known) return known;
  if (encoded.size >= maxEncoded) encoded.clear();
  const bytes = ipToBytes(ip);
  encoded.set(ip, bytes);
  return bytes;
};
