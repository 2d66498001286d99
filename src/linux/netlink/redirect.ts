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

/** True where these are the bodies of the redirect's rules as the kernel shows them, and no other. @throws NetworkError `malformed-netlink` */
export const isRedirect = (rules: readonly Buffer[], redirect: Redirect): boolean => {
  const wanted = (["udp", "tcp"] as const).map((protocol) => rule(redirect, protocol).body);
  return (
    rules.length === wanted.length &&
    wanted.every((body, n) => covers(rules[n]?.subarray(header.length) ?? header, body.subarray(header.length)))
  );
};

/** Where a rule of a redirect leads: undefined where the rule is none of ours. @throws NetworkError `malformed-netlink` */
export const decodeRedirect = (
  body: Buffer,
): { readonly protocol: "udp" | "tcp"; readonly port: number } | undefined => {
  // NFTA_RULE_EXPRESSIONS
  const expressions = decodeAttributes(attributeMap(body.subarray(header.length)).get(4) ?? Buffer.alloc(0));
  let protocol: "udp" | "tcp" | undefined;
  let port: number | undefined;
  for (const { value } of expressions) {
    const parts = attributeMap(value);
    const name = cString(parts.get(1) ?? Buffer.alloc(0));
    const data = attributeMap(parts.get(2) ?? Buffer.alloc(0));
    // NFTA_CMP_DATA of one byte: the protocol, set beside two longer ones.
    const compared = name === "cmp" ? dataValue(data.get(3)) : undefined;
    if (compared?.length === 1) protocol = compared[0] === protocols.udp ? "udp" : "tcp";
    const loaded = name === "immediate" ? dataValue(data.get(2)) : undefined;
    if (loaded?.length === 2) port = loaded.readUInt16BE();
  }
  return protocol !== undefined && port !== undefined ? { protocol, port } : undefined;
};

/** NFTA_DATA_VALUE */
const dataValue = (data: Buffer | undefined): Buffer | undefined => data && attributeMap(data).get(1);
