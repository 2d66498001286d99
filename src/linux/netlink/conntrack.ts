import { readFileSync } from "node:fs";
import { type Family, type Ip, ipFromBytes } from "../../net/ip.ts";
import { errno } from "../libc.ts";
import type { FlowMatch } from "../plan.ts";
import { addressFamily } from "./address.ts";
import { attribute, attributeMap, malformed } from "./message.ts";
import { NetlinkError } from "./netlink-error.ts";
import { NetlinkSocket, type Request } from "./socket.ts";

/** Connection tracking over netlink (nfnetlink.h, nfnetlink_conntrack.h): bytes in, objects out. */

const NETLINK_NETFILTER = 12;
/** NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE */
const message = { GET: 0x101, DELETE: 0x102 } as const;
/** CTA_* */
const cta = { TUPLE_ORIG: 1, TUPLE_REPLY: 2, ID: 12, ZONE: 18 } as const;
const tuple = { IP: 1, PROTO: 2, ZONE: 3 } as const;
const tupleIp = { V4_SRC: 1, V4_DST: 2, V6_SRC: 3, V6_DST: 4 } as const;
const tupleProto = { NUM: 1, SRC_PORT: 2, DST_PORT: 3 } as const;
/** in.h: IPPROTO_* */
const protocolNumber = { tcp: 6, udp: 17, sctp: 132 } as const;

/** The first byte of struct nfgenmsg. */
const familyOfFlow = (body: Buffer): Family => (body[0] === addressFamily(4) ? 4 : 6);

/** One direction of a flow. */
interface Tuple {
  readonly source: Ip;
  readonly destination: Ip;
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

const decodeTuple = (bytes: Buffer | undefined, family: Family): Tuple | undefined => {
  if (!bytes) return undefined;
  const parts = attributeMap(bytes);
  const ip = attributeMap(parts.get(tuple.IP) ?? Buffer.alloc(0));
  const proto = attributeMap(parts.get(tuple.PROTO) ?? Buffer.alloc(0));
  const source = ip.get(family === 4 ? tupleIp.V4_SRC : tupleIp.V6_SRC);
  const destination = ip.get(family === 4 ? tupleIp.V4_DST : tupleIp.V6_DST);
  const sourcePort = proto.get(tupleProto.SRC_PORT);
  const destinationPort = proto.get(tupleProto.DST_PORT);
  // A protocol without ports, such as ICMP.
  const length = family === 4 ? 4 : 16;
  if (
    source?.length !== length ||
    destination?.length !== length ||
    sourcePort?.length !== 2 ||
    destinationPort?.length !== 2
  )
    return undefined;
  return {
    source: ipFromBytes(source),
    destination: ipFromBytes(destination),
    protocol: proto.get(tupleProto.NUM)?.[0] ?? 0,
    sourcePort: sourcePort.readUInt16BE(),
    destinationPort: destinationPort.readUInt16BE(),
  };
};

/** The request for all flows, both families: the kernel walks its whole table whatever is asked for. */
export const flowsRequest: Request = { type: message.GET, body: Buffer.alloc(4) };

/** The request that removes exactly the flow of a dumped message: its tuple, its zone, its id. @throws NetworkError */
export const flowDeletion = (body: Buffer): Request => {
  if (body.length < 4) throw malformed("short flow");
  const attributes = attributeMap(body.subarray(4));
  const kept = [cta.TUPLE_ORIG, cta.ZONE, cta.ID].flatMap((type) => {
    const value = attributes.get(type);
    return value ? [attribute(type === cta.TUPLE_ORIG ? type | 0x8000 : type, value)] : [];
  });
  return { type: message.DELETE, body: Buffer.concat([body.subarray(0, 4), ...kept]) };
};

/**
 * A test for bodies of dumped flows: true for those that came to one of the matches' ports on the host and do not lead where
 * the match says.
 * @param local the host's own addresses: what is meant for others is in transit and stays
 */
export const flowFilter = (matches: readonly FlowMatch[], local: readonly Ip[]): ((body: Buffer) => boolean) => {
  const own = new Set<string>(local);
  const byPort = new Map<string, FlowMatch[]>();
  for (const match of matches) {
    for (let port = match.port; port < match.port + match.count; port++) {
      const key = `${match.family} ${protocolNumber[match.protocol]} ${port}`;
      const known = byPort.get(key);
      if (known) known.push(match);
      else byPort.set(key, [match]);
    }
  }
  return (body) => {
    if (body.length < 4) return false;
    const family = familyOfFlow(body);
    const attributes = attributeMap(body.subarray(4));
    const original = decodeTuple(attributes.get(cta.TUPLE_ORIG), family);
    const found = original && byPort.get(`${family} ${original.protocol} ${original.destinationPort}`);
    if (!found) return false;
    const reply = decodeTuple(attributes.get(cta.TUPLE_REPLY), family);
    return found.some(({ address, port, unless }) => {
      if (address === undefined ? !own.has(original.destination) : address !== original.destination) return false;
      const right = unless && unless.port + original.destinationPort - port;
      return !(unless && reply && reply.source === unless.address && reply.sourcePort === right);
    });
  };
};

/** Flows in the calling thread's namespace: reading an empty table takes the kernel as long as a full one. */
const flowCount = (): number | undefined => {
  try {
    return Number(readFileSync("/proc/sys/net/netfilter/nf_conntrack_count", "utf8"));
  } catch {
    return undefined;
  }
};

/**
 * Makes connection tracking forget flows, in the namespace in which the calling thread is. The table is read and each flow
 * removed by its own tuple: kernels before 6.11 cannot be told to remove by port.
 * @param local the host's own addresses
 * @returns how many there were
 */
export const flushFlows = (matches: readonly FlowMatch[], local: readonly Ip[]): number => {
  if (flowCount() === 0) return 0;
  const socket = new NetlinkSocket(NETLINK_NETFILTER);
  try {
    let count = 0;
    for (const { body } of socket.dump(flowsRequest, flowFilter(matches, local))) if (deleteFlow(socket, body)) count++;
    return count;
  } finally {
    socket.close();
  }
};

/** @returns false where the flow ended in the meantime */
const deleteFlow = (socket: NetlinkSocket, body: Buffer): boolean => {
  try {
    socket.request(flowDeletion(body));
    return true;
  } catch (error) {
    if (error instanceof NetlinkError && error.errno === errno.ENOENT) return false;
    throw error;
  }
};
