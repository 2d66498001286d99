import { ipToBytes } from "../../net/ip.ts";
import { type Redirect, redirectChain } from "../redirect.ts";
import { AF, flag } from "./constants.ts";
import { attribute, attributeMap, attributeText0, covers, cString, decodeAttributes, nest } from "./message.ts";
import type { Request } from "./socket.ts";

/**
 * A redirect as nf_tables messages (include/uapi/linux/netfilter/nf_tables.h). It is the one batch that every sandbox needs: to
 * start the program nft for it took half of the time to make a sandbox.
 */

/** enum nf_tables_msg_types, below the number of the subsystem. */
const message = { NEWTABLE: 0, NEWCHAIN: 3, NEWRULE: 6, GETRULE: 7, DELRULE: 8 } as const;
const NFNL_SUBSYS_NFTABLES = 10;
const NF_INET_LOCAL_OUT = 3;
/** linux/in.h */
const protocols = { udp: 17, tcp: 6 } as const;

/** Numbers of nf_tables are in network byte order. */
const u32 = (type: number, value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return attribute(type, bytes);
};
const u16 = (value: number): Buffer => Buffer.from([value >> 8, value & 255]);

/** struct nfgenmsg for IPv4. */
const header = Buffer.from([AF.INET, 0, 0, 0]);
const request = (type: number, flags: number, ...attributes: readonly Buffer[]): Request => ({
  type: (NFNL_SUBSYS_NFTABLES << 8) | type,
  flags,
  body: Buffer.concat([header, ...attributes]),
});

/** NFTA_LIST_ELEM with NFTA_EXPR_NAME and NFTA_EXPR_DATA. */
const expression = (name: string, ...attributes: readonly Buffer[]): Buffer =>
  nest(1, attributeText0(1, name), nest(2, ...attributes));
/** The first or second register of four words. */
const register = { first: 1, second: 2 } as const;
/** NFTA_CMP_SREG, NFTA_CMP_OP (equal), NFTA_CMP_DATA with NFTA_DATA_VALUE. */
const equals = (value: Buffer): Buffer =>
  expression("cmp", u32(1, register.first), u32(2, 0), nest(3, attribute(1, value)));
/** NFTA_PAYLOAD_DREG, _BASE (1 the network header, 2 the transport header), _OFFSET, _LEN. */
const payload = (base: 1 | 2, offset: number, length: number): Buffer =>
  expression("payload", u32(1, register.first), u32(2, base), u32(3, offset), u32(4, length));
/** NFTA_IMMEDIATE_DREG, NFTA_IMMEDIATE_DATA with NFTA_DATA_VALUE. */
const immediate = (into: number, value: Buffer): Buffer =>
  expression("immediate", u32(1, into), nest(2, attribute(1, value)));

const rule = ({ table, address, port, ...ports }: Redirect, protocol: "udp" | "tcp"): Request =>
  request(
    message.NEWRULE,
    flag.CREATE | flag.APPEND,
    attributeText0(1, table),
    attributeText0(2, redirectChain),
    nest(
      4,
      payload(1, 16, 4),
      equals(ipToBytes(address)),
      // NFTA_META_DREG, NFTA_META_KEY (NFT_META_L4PROTO).
      expression("meta", u32(1, register.first), u32(2, 16)),
      equals(Buffer.from([protocols[protocol]])),
      payload(2, 2, 2),
      equals(u16(port)),
      immediate(register.first, ipToBytes(address)),
      immediate(register.second, u16(ports[protocol])),
      // NFTA_NAT_TYPE (destination), _FAMILY, _REG_ADDR_MIN, _REG_PROTO_MIN.
      expression("nat", u32(1, 1), u32(2, AF.INET), u32(3, register.first), u32(5, register.second)),
    ),
  );

/** The messages of one transaction that do what `redirectScript` does. */
export const encodeRedirect = (redirect: Redirect): readonly Request[] => {
  const { table } = redirect;
  return [
    request(message.NEWTABLE, flag.CREATE, attributeText0(1, table)),
    request(
      message.NEWCHAIN,
      flag.CREATE,
      attributeText0(1, table),
      attributeText0(3, redirectChain),
      // NFTA_CHAIN_HOOK: number and priority (dstnat); NFTA_CHAIN_POLICY (accept); NFTA_CHAIN_TYPE.
      nest(4, u32(1, NF_INET_LOCAL_OUT), u32(2, -100)),
      u32(5, 1),
      attributeText0(7, "nat"),
    ),
    // Without a rule's handle: all of the chain.
    request(message.DELRULE, 0, attributeText0(1, table), attributeText0(2, redirectChain)),
    rule(redirect, "udp"),
    rule(redirect, "tcp"),
  ];
};

/** NFNL_MSG_BATCH_BEGIN and NFNL_MSG_BATCH_END of nfnetlink.h, for the subsystem nf_tables. */
const mark = (type: 0x10 | 0x11): Request => ({ type, body: Buffer.from([0, 0, 0, NFNL_SUBSYS_NFTABLES]) });
export const batch = { begin: mark(0x10), end: mark(0x11) } as const;

/** Asks for the rules of a redirect's table. */
export const redirectQuery = (table: string): Request =>
  request(message.GETRULE, 0, attributeText0(1, table), attributeText0(2, redirectChain));

/** What a redirect's rules say, as the kernel shows them. */
export interface ShownRedirect {
  readonly udp?: number;
  readonly tcp?: number;
  /** There are the redirect's rules and no other. */
  readonly whole: boolean;
}

/** Reads the bodies of rules. @throws NetworkError `malformed-netlink` */
export const readRedirect = (
  rules: readonly Buffer[],
  redirect: Pick<Redirect, "table" | "address" | "port">,
): ShownRedirect => {
  const shown = rules.map((body) => readRule(body, redirect));
  const ports = Object.fromEntries(shown.flatMap((one) => (one ? [[one.protocol, one.port] as const] : [])));
  const right = shown.map((one) => (one?.right ? one.protocol : "other"));
  return { ...ports, whole: right.join() === "udp,tcp" };
};

interface ShownRule {
  readonly protocol: "udp" | "tcp";
  readonly port: number;
  /** It is what `encodeRedirect` makes, with this port. */
  readonly right: boolean;
}

/** A right rule as the kernel shows it; that of another sandbox differs in the port, and in what is not kept here. */
interface KnownRule {
  readonly redirect: string;
  readonly protocol: "udp" | "tcp";
  readonly table: Buffer;
  readonly chain: Buffer;
  readonly expressions: Buffer;
  /** Where in the expressions the port is. */
  readonly at: number;
}

/** The last right rule of each protocol: to take apart those of hundreds of sandboxes, all alike, was a fifth of the worker's time at a start. */
const known = new Map<"udp" | "tcp", KnownRule>();

const isLike = (rule: KnownRule, table: Buffer, chain: Buffer, expressions: Buffer): boolean =>
  rule.expressions.length === expressions.length &&
  rule.table.equals(table) &&
  rule.chain.equals(chain) &&
  rule.expressions.compare(expressions, 0, rule.at, 0, rule.at) === 0 &&
  rule.expressions.compare(expressions, rule.at + 2, expressions.length, rule.at + 2) === 0;

/** @returns undefined where the rule is none of ours */
const readRule = (
  body: Buffer,
  { table, address, port: from }: Pick<Redirect, "table" | "address" | "port">,
): ShownRule | undefined => {
  const attributes = attributeMap(body.subarray(header.length));
  // NFTA_RULE_TABLE, _CHAIN, _EXPRESSIONS
  const [inTable, chain, expressions] = [1, 2, 4].map((type) => attributes.get(type) ?? Buffer.alloc(0));
  if (!inTable || !chain || !expressions) return undefined;
  const redirect = `${table} ${address} ${from}`;
  for (const one of known.values()) {
    if (one.redirect === redirect && isLike(one, inTable, chain, expressions))
      return { protocol: one.protocol, port: expressions.readUInt16BE(one.at), right: true };
  }
  const { protocol, port } = decodeExpressions(expressions);
  if (protocol === undefined || port === undefined) return undefined;
  const leadsTo = port.readUInt16BE();
  const wanted = rule({ table, address, port: from, udp: leadsTo, tcp: leadsTo }, protocol).body;
  const right = covers(body.subarray(header.length), wanted.subarray(header.length));
  if (right) {
    // Copies: what was read lies in a buffer that the next answer takes.
    const [ofTable, ofChain, shown] = [inTable, chain, expressions].map((value) => Buffer.from(value));
    if (ofTable && ofChain && shown)
      known.set(protocol, {
        ...{ redirect, protocol, table: ofTable, chain: ofChain, expressions: shown },
        at: port.byteOffset - expressions.byteOffset,
      });
  }
  return { protocol, port: leadsTo, right };
};

/** The protocol that a rule of a redirect is for, and the two bytes of the port to which it leads. */
const decodeExpressions = (expressions: Buffer): { readonly protocol?: "udp" | "tcp"; readonly port?: Buffer } => {
  let protocol: "udp" | "tcp" | undefined;
  let port: Buffer | undefined;
  for (const { value } of decodeAttributes(expressions)) {
    const parts = attributeMap(value);
    const name = cString(parts.get(1) ?? Buffer.alloc(0));
    const data = attributeMap(parts.get(2) ?? Buffer.alloc(0));
    // NFTA_CMP_DATA of one byte: the protocol, set beside two longer ones.
    const compared = name === "cmp" ? dataValue(data.get(3)) : undefined;
    if (compared?.length === 1) protocol = compared[0] === protocols.udp ? "udp" : "tcp";
    const loaded = name === "immediate" ? dataValue(data.get(2)) : undefined;
    if (loaded?.length === 2) port = loaded;
  }
  return { ...(protocol && { protocol }), ...(port && { port }) };
};

/** NFTA_DATA_VALUE */
const dataValue = (data: Buffer | undefined): Buffer | undefined => data && attributeMap(data).get(1);
