import { ipFromBytes, ipToBytes } from "../../net/ip.ts";
import { addressOf, lengthOf, makePrefix, type Prefix, prefixFamily } from "../../net/prefix.ts";
import type { RuleSpec } from "../plan.ts";
import { addressFamily } from "./address.ts";
import { AF, FR_ACT_TO_TBL, fra, RTPROT_DNET } from "./constants.ts";
import { attribute, attributeMap, attributeU8, attributeU32, malformed } from "./message.ts";

/** Body of an RTM_NEWRULE or RTM_DELRULE: struct fib_rule_hdr of fib_rules.h and its attributes. */
export const encodeRule = (rule: RuleSpec): Buffer => {
  const header = Buffer.alloc(12);
  const prefix = rule.from ?? rule.to;
  header.writeUInt8(prefix === undefined ? AF.INET : addressFamily(prefixFamily(prefix)), 0);
  header.writeUInt8(rule.to === undefined ? 0 : lengthOf(rule.to), 1);
  header.writeUInt8(rule.from === undefined ? 0 : lengthOf(rule.from), 2);
  // Tables past 255 do not fit the header's byte and travel as an attribute only.
  header.writeUInt8(rule.table < 256 ? rule.table : 0, 4);
  header.writeUInt8(FR_ACT_TO_TBL, 7);
  return Buffer.concat([
    header,
    attributeU32(fra.PRIORITY, rule.priority),
    ...(rule.from === undefined ? [] : [attribute(fra.SRC, ipToBytes(addressOf(rule.from)))]),
    ...(rule.to === undefined ? [] : [attribute(fra.DST, ipToBytes(addressOf(rule.to)))]),
    ...(rule.table < 256 ? [] : [attributeU32(fra.TABLE, rule.table)]),
    attributeU8(fra.PROTOCOL, RTPROT_DNET),
  ]);
};

/** Body of an RTM_NEWRULE from the kernel. @throws NetworkError `malformed-netlink` */
export const decodeRule = (body: Buffer): RuleSpec & { readonly protocol: number } => {
  if (body.length < 12) throw malformed("short rule");
  const attributes = attributeMap(body.subarray(12));
  const u32 = (type: number): number | undefined => {
    const value = attributes.get(type);
    return value && value.length >= 4 ? value.readUInt32LE() : undefined;
  };
  const prefix = (type: number, length: number): Prefix | undefined => {
    const value = attributes.get(type);
    return value && (value.length === 4 || value.length === 16) ? makePrefix(ipFromBytes(value), length) : undefined;
  };
  const from = prefix(fra.SRC, body.readUInt8(2));
  const to = prefix(fra.DST, body.readUInt8(1));
  return {
    priority: u32(fra.PRIORITY) ?? 0,
    table: u32(fra.TABLE) ?? body.readUInt8(4),
    ...(from !== undefined && { from }),
    ...(to !== undefined && { to }),
    protocol: attributes.get(fra.PROTOCOL)?.[0] ?? 0,
  };
};
