import { type Family, familyOf, type Ip, ipToBytes } from "../net/ip.ts";
import type { Mac } from "../net/mac.ts";
import { macToBytes } from "../net/mac.ts";
import { errno } from "./libc.ts";
import { getLink } from "./link-executor.ts";
import type { Namespaces } from "./namespaces.ts";
import { addressFamily } from "./netlink/address.ts";
import { AF, NTF_SELF, nda, RTN_UNICAST, rta, rtm } from "./netlink/constants.ts";
import { decodeLink, getLinkRequest } from "./netlink/link.ts";
import { attribute, attributeU32 } from "./netlink/message.ts";
import { decodeNeighbor, neighborHeader } from "./netlink/neighbor.ts";
import { NetlinkError } from "./netlink/netlink-error.ts";
import { decodeRoute } from "./netlink/route.ts";
import type { NetlinkSocket } from "./netlink/socket.ts";
import type { NamespaceRef } from "./plan.ts";

/** A question to the kernel about one packet: where a namespace sends it, who a neighbour is, which way a MAC is. */
export type LookupQuery =
  | { readonly kind: "route"; readonly to: Ip }
  | { readonly kind: "neighbor"; readonly device: string; readonly ip: Ip }
  /** Where a VXLAN device sends frames for a MAC. */
  | { readonly kind: "fdb"; readonly device: string; readonly mac: Mac }
  /** Behind which port of a bridge a MAC is. */
  | { readonly kind: "port"; readonly bridge: string; readonly mac: Mac };

/** What is known; without an entry, an object of nothing but undefined values. */
export interface LookupResult {
  /** Device that a route leaves by, or port of a bridge. */
  readonly device?: string;
  readonly via?: Ip;
  /** Address that the namespace would send from. */
  readonly source?: Ip;
  /** The destination is the namespace's own. */
  readonly own?: true;
  readonly mac?: Mac;
  /** The other host, for an entry of a VXLAN device. */
  readonly destination?: Ip;
  readonly permanent?: boolean;
}

/** rtnetlink.h: RTN_LOCAL */
const RTN_LOCAL = 2;

/** The kernel's answer; undefined where it knows nothing. @throws NetworkError `no-namespace` */
export const lookup = (
  namespaces: Namespaces,
  namespace: NamespaceRef,
  query: LookupQuery,
): LookupResult | undefined => {
  const socket = namespaces.socket(namespace);
  try {
    return ask(socket, query);
  } catch (error) {
    // No route is an errno and not an empty answer; so is an entry of a device that is gone.
    if (error instanceof NetlinkError && absent.includes(error.errno ?? 0)) return undefined;
    throw error;
  }
};

const absent: readonly number[] = [errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL];

const ask = (socket: NetlinkSocket, query: LookupQuery): LookupResult | undefined => {
  if (query.kind === "route") return askRoute(socket, query.to);
  const device = getLink(socket, query.kind === "port" ? query.bridge : query.device);
  if (!device) return undefined;
  const found = socket.get({ type: rtm.GETNEIGH, body: neighborRequest(device.index, query) });
  if (!found) return undefined;
  const { ip, mac, permanent, index } = decodeNeighbor(found.body);
  return {
    ...(mac !== undefined && { mac }),
    ...(query.kind === "fdb" && ip !== undefined && { destination: ip }),
    ...(query.kind === "port" && nameOf(socket, index)),
    permanent,
  };
};

const neighborRequest = (index: number, query: Exclude<LookupQuery, { kind: "route" }>): Buffer => {
  if (query.kind === "neighbor") {
    const family = addressFamily(familyOf(query.ip));
    return Buffer.concat([neighborHeader(family, index, 0, 0), attribute(nda.DST, ipToBytes(query.ip))]);
  }
  const mac = attribute(nda.LLADDR, macToBytes(query.mac));
  return query.kind === "fdb"
    ? Buffer.concat([neighborHeader(AF.BRIDGE, index, 0, NTF_SELF), mac])
    : Buffer.concat([neighborHeader(AF.BRIDGE, 0, 0, 0), mac, attributeU32(nda.MASTER, index)]);
};

const nameOf = (socket: NetlinkSocket, index: number): { readonly device?: string } => {
  const found = socket.get(getLinkRequest(index));
  return found ? { device: decodeLink(found.body).name } : {};
};

const askRoute = (socket: NetlinkSocket, to: Ip): LookupResult | undefined => {
  const family: Family = familyOf(to);
  const header = Buffer.alloc(12);
  header.writeUInt8(addressFamily(family), 0);
  header.writeUInt8(family === 4 ? 32 : 128, 1);
  const found = socket.get({ type: rtm.GETROUTE, body: Buffer.concat([header, attribute(rta.DST, ipToBytes(to))]) });
  const route = found && decodeRoute(found.body, (index) => nameOf(socket, index).device);
  if (!route || (route.type !== RTN_UNICAST && route.type !== RTN_LOCAL)) return undefined;
  const { device, via, source } = route;
  return {
    ...(device !== undefined && { device }),
    ...(via !== undefined && { via }),
    ...(source !== undefined && { source }),
    ...(route.type === RTN_LOCAL && { own: true }),
  };
};
