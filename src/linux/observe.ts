import type { Observed } from "./kernel.ts";
import type { Namespaces } from "./namespaces.ts";
import { addressFamily, decodeAddress } from "./netlink/address.ts";
import { RT_TABLE_MAIN, RTN_UNICAST, rtm } from "./netlink/constants.ts";
import { decodeLink, ifinfo } from "./netlink/link.ts";
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
    .dump({ type: rtm.GETLINK, body: ifinfo() })
    .map(({ body }) => decodeLink(body))
    .map((link) => ({ ...link, addresses: (addresses.get(link.index) ?? []).map(({ address }) => address) }));
  const names = new Map(links.map(({ index, name }) => [index, name]));
  const routes = ([4, 6] as const).flatMap((family) => {
    const body = Buffer.alloc(12);
    body.writeUInt8(addressFamily(family), 0);
    return socket.dump({ type: rtm.GETROUTE, body }).flatMap(({ body: found }): RouteSpec[] => {
      const decoded = decodeRoute(found, (index) => names.get(index));
      if (!decoded || decoded.table !== RT_TABLE_MAIN || decoded.type !== RTN_UNICAST) return [];
      const { table: _table, protocol: _protocol, type: _type, ...route } = decoded;
      return [route];
    });
  });
  return { links, routes };
};
