import type { Observed } from "./kernel.ts";
import type { Namespaces } from "./namespaces.ts";
import { addressFamily, decodeAddress } from "./netlink/address.ts";
import { RT_TABLE_MAIN, RTN_UNICAST, rtm } from "./netlink/constants.ts";
import { decodeLink, getLinkRequest } from "./netlink/link.ts";
import { decodeRoute } from "./netlink/route.ts";
import type { NamespaceRef, RouteSpec } from "./plan.ts";

/**
 * Reads a namespace's links, addresses and routes; undefined where there is no such namespace.
 * @param of `addressed`: links that have an address only
 */
export const observe = (namespaces: Namespaces, namespace: NamespaceRef, of?: "addressed"): Observed | undefined => {
  if (namespaces.inode(namespace) === undefined) return undefined;
  const socket = namespaces.socket(namespace);
  const addresses = Map.groupBy(
    socket.dump({ type: rtm.GETADDR, body: Buffer.alloc(8) }).map(({ body }) => decodeAddress(body)),
    ({ index }) => index,
  );
  // An address may have come and its link gone between the two.
  const found =
    of === "addressed"
      ? [...addresses.keys()].flatMap((index) => socket.get(getLinkRequest(index)) ?? [])
      : socket.dump(getLinkRequest());
  const links = found
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
