import { AF, flag, nlmsg } from "./constants.ts";
import { attribute, attributeMap, attributeText0, cString, decodeMessages, encodeMessage, nest } from "./message.ts";

/**
 * The little of nf_tables' netlink that we speak ourselves (include/uapi/linux/netfilter/nf_tables.h, nfnetlink.h): reading
 * notifications, and a table that belongs to a socket. Rules go through nft(8).
 */

export const NETLINK_NETFILTER = 12;
/** Multicast group of nf_tables, as the bit of a bind: NFNLGRP_NFTABLES is 7. */
export const groupNftables = 1 << 6;
const SUBSYS_NFTABLES = 10;
const NFPROTO_INET = 1;
const BATCH_BEGIN = 0x10;
const BATCH_END = 0x11;
const message = { NEWTABLE: 0, NEWCHAIN: 3, NEWRULE: 6, NEWGEN: 15 } as const;
/** NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE, ...: of every object but NEWGEN, the table is attribute 1. */
const attributeTable = 1;
/** NFTA_GEN_* */
const gen = { PROC_PID: 2, PROC_NAME: 3 } as const;

/** One committed batch of somebody. */
export interface RulesetChange {
  /** Names of the tables that it touched. */
  readonly tables: ReadonlySet<string>;
  /** Who committed it, in the words of the first pid namespace. */
  readonly pid: number;
  readonly program: string;
}

/** Puts notifications together: a batch's objects come first, then the new generation with its author. */
export class RulesetChanges {
  #tables = new Set<string>();

  /** @param bytes one datagram; undefined where some got lost. @returns undefined for a change that is not known */
  read(bytes: Buffer | undefined): readonly (RulesetChange | undefined)[] {
    try {
      if (bytes) return this.#decode(bytes);
    } catch {
      // A datagram that makes no sense tells as little as one that got lost.
    }
    this.#tables = new Set();
    return [undefined];
  }

  #decode(bytes: Buffer): readonly RulesetChange[] {
    const changes: RulesetChange[] = [];
    for (const { type, body } of decodeMessages(bytes)) {
      if (type >> 8 !== SUBSYS_NFTABLES || body.length < 4) continue;
      const attributes = attributeMap(body.subarray(4));
      if ((type & 0xff) !== message.NEWGEN) {
        const table = attributes.get(attributeTable);
        if (table) this.#tables.add(cString(table));
        continue;
      }
      const pid = attributes.get(gen.PROC_PID);
      changes.push({
        tables: this.#tables,
        pid: pid?.length === 4 ? pid.readUInt32BE() : 0,
        program: cString(attributes.get(gen.PROC_NAME) ?? Buffer.alloc(0)),
      });
      this.#tables = new Set();
    }
    return changes;
  }
}

const be32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
};

/** struct nfgenmsg */
const header = (family: number, resource = 0): Buffer => Buffer.from([family, 0, resource >> 8, resource & 0xff]);

/** NFT_TABLE_F_OWNER: nobody else changes or flushes the table, and it goes with the socket that made it (Linux 5.12). */
const TABLE_F_OWNER = 2;
/** netfilter.h, netfilter_ipv4.h */
const hook = { FORWARD: 2, POSTROUTING: 4 } as const;
const priority = { FILTER: 0, SRCNAT: 100 } as const;
const NFT_REG_1 = 1;
const NFT_CT_STATE = 0;

/**
 * The batch that makes a table of a NAT chain without rules and one look at connection states, owned by the socket it is sent
 * on. With it the kernel keeps translating established connections while every other table is gone.
 * @returns the batch and the number of acknowledgements that follow it
 */
export const encodeHold = (table: string): { readonly bytes: Buffer; readonly acknowledgements: number } => {
  const name = attributeText0(attributeTable, table);
  const chain = (own: string, type: string, hooknum: number, order: number) =>
    Buffer.concat([
      header(NFPROTO_INET),
      name,
      attributeText0(3, own),
      nest(4, attribute(1, be32(hooknum)), attribute(2, be32(order))),
      attributeText0(7, type),
    ]);
  const lookAtState = nest(
    1,
    attributeText0(1, "ct"),
    nest(2, attribute(1, be32(NFT_REG_1)), attribute(2, be32(NFT_CT_STATE))),
  );
  const objects = [
    { type: message.NEWTABLE, body: Buffer.concat([header(NFPROTO_INET), name, attribute(2, be32(TABLE_F_OWNER))]) },
    { type: message.NEWCHAIN, body: chain("nat", "nat", hook.POSTROUTING, priority.SRCNAT) },
    { type: message.NEWCHAIN, body: chain("connections", "filter", hook.FORWARD, priority.FILTER) },
    {
      type: message.NEWRULE,
      body: Buffer.concat([header(NFPROTO_INET), name, attributeText0(2, "connections"), nest(4, lookAtState)]),
    },
  ];
  const border = (type: number, sequence: number) =>
    encodeMessage({ type, flags: flag.REQUEST, sequence, body: header(AF.UNSPEC, SUBSYS_NFTABLES) });
  const bytes = Buffer.concat([
    border(BATCH_BEGIN, 1),
    ...objects.map(({ type, body }, n) =>
      encodeMessage({
        type: (SUBSYS_NFTABLES << 8) | type,
        flags: flag.REQUEST | flag.ACK | flag.CREATE | (type === message.NEWRULE ? flag.APPEND : 0),
        sequence: n + 2,
        body,
      }),
    ),
    border(BATCH_END, objects.length + 2),
  ]);
  return { bytes, acknowledgements: objects.length };
};

export const isAcknowledgement = ({ type }: { readonly type: number }): boolean => type === nlmsg.ERROR;
