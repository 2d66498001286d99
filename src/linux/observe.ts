import type { Observed } from "./kernel.ts";
import type { Namespaces } from "./namespaces.ts";
import { addressFamily, decodeAddress } from "./netlink/address.ts";
import { ifla, RT_TABLE_MAIN, RTEXT_FILTER_SKIP_STATS, RTN_UNICAST, rtm } from "./netlink/constants.ts";
import { decodeLink, ifinfo } from "./netlink/link.ts";
import { attributeU32 } from "./netlink/message.ts";
import { decodeRoute } from "./netlink/route.ts";
import type { NamespaceRef, RouteSpec } from "./plan.ts";

/** Reads a namespace's links, addresses and routes; undefined where there is no such namespace. */
export const observe = (namespaces: Namespaces, namespace: NamespaceRef): Observed | undefined => {
  if (namespaces.inode(namespace) === undefined) return undefined;
  const socket = namespaces.socket(namespace);
  const addresses = Map.groupBy(
    socket.dump({ type: rtm.GETADDR, body: Buffer.alloc(8) }).map(({ body }) => decodeAddress(body)),
    ({ index }) => index,
  );
  const links = socket
    .dump({ type: rtm.GETLINK, body: Buffer.concat([ifinfo(), attributeU32(ifla.EXT_MASK, RTEXT_FILTER_SKIP_STATS)]) })
    .map(({ body }) => decodeLink(body))
    .map((link) => ({ ...link, addresses: (addresses.get(link.index) ?? []).map(({ address }) => address) }));
  const names = new Map(links.map(({ index, name }) => [index, name]));
  const routes = ([4, 6] as const).flatMap((family) => {
    const body = Buffer.alloc(12);
    body.writeUInt8(addressFamily(family), 0);
    return socket.dump({ type: rtm.GETROUTE, body }).flatMap(({ body: found }): RouteSpec[] => {
      // struct rtmsg: rtm_table, rtm_type. Most are of the table of local addresses; they are not worth decoding.
      if (found[4] !== RT_TABLE_MAIN || found[7] !== RTN_UNICAST) return [];
      const decoded = decodeRoute(found, (index) => names.get(index));
      if (!decoded) return [];
      const { table: _table, protocol: _protocol, type: _type, ...route } = decoded;
      return [route];
    });
  });
  return { links, routes };
};
