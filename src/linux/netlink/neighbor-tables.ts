import type { NeighborTable } from "../kernel.ts";
import { ndta, rtm } from "./constants.ts";
import { attributeMap, cString, malformed } from "./message.ts";
import type { NetlinkSocket } from "./socket.ts";

const families: Readonly<Record<string, 4 | 6>> = { arp_cache: 4, ndisc_cache: 6 };

/** How full the kernel's tables of neighbours are (`ip ntable`): struct ndtmsg and struct ndt_config of neighbour.h. */
export const neighborTables = (socket: NetlinkSocket): readonly NeighborTable[] =>
  socket.dump({ type: rtm.GETNEIGHTBL, body: Buffer.alloc(4) }).flatMap(({ body }) => {
    if (body.length < 4) throw malformed("short table of neighbours");
    const attributes = attributeMap(body.subarray(4));
    const family = families[cString(attributes.get(ndta.NAME) ?? Buffer.alloc(0))];
    const [limit, config] = [attributes.get(ndta.THRESH3), attributes.get(ndta.CONFIG)];
    // Parameters of single interfaces come in messages without a limit.
    if (family === undefined || limit?.length !== 4 || config === undefined || config.length < 8) return [];
    return [{ family, entries: config.readUInt32LE(4), limit: limit.readUInt32LE() }];
  });
