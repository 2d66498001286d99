import type { Ip } from "../net/ip.ts";
import type { Mac } from "../net/mac.ts";
import type { Namespaces } from "./namespaces.ts";
import { AF, rtm } from "./netlink/constants.ts";
import { decodeLink, getLinkRequest } from "./netlink/link.ts";
import { decodeNeighbor, neighborHeader } from "./netlink/neighbor.ts";
import type { NamespaceRef } from "./plan.ts";

/** A permanent entry of a device: a neighbour (with `ip`), or where a VXLAN device sends frames for a MAC (with `destination`). */
export interface NeighborEntry {
  readonly device: string;
  readonly mac: Mac;
  readonly ip?: Ip;
  readonly destination?: Ip;
  /** Seconds since a packet went by it. */
  readonly idle: number;
}

/** The permanent entries of all devices of a namespace; undefined where there is no such namespace. */
export const neighborEntries = (
  namespaces: Namespaces,
  namespace: NamespaceRef,
): readonly NeighborEntry[] | undefined => {
  if (namespaces.inode(namespace) === undefined) return undefined;
  const socket = namespaces.socket(namespace);
  const links = socket.dump(getLinkRequest()).map(({ body }) => decodeLink(body));
  const names = new Map(links.map(({ index, name }) => [index, name]));
  return [AF.INET, AF.INET6, AF.BRIDGE].flatMap((family) =>
    socket
      .dump({ type: rtm.GETNEIGH, body: neighborHeader(family, 0, 0, 0) })
      .flatMap(({ body }): readonly NeighborEntry[] => {
        const { index, fdb, ip, mac, permanent, idle = 0 } = decodeNeighbor(body);
        const device = names.get(index);
        if (!permanent || device === undefined || ip === undefined || mac === undefined) return [];
        return [{ device, mac, idle, ...(fdb ? { destination: ip } : { ip }) }];
      }),
  );
};
