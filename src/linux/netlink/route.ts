import { ipFromBytes, ipToBytes } from "../../net/ip.ts";
import { addressOf, lengthOf, type Prefix, parsePrefix, prefixFamily } from "../../net/prefix.ts";
import type { RouteSpec } from "../plan.ts";
import { addressFamily } from "./address.ts";
import { AF, RT_TABLE_MAIN, RTN_UNICAST, RTPROT_DNET, rta, scope } from "./constants.ts";
import { attribute, attributeMap, attributeU32, malformed } from "./message.ts";

/** Body of an RTM_NEWROUTE or RTM_DELROUTE of the main table: struct rtmsg of rtnetlink.h and its attributes. */
export const encodeRoute = (route: RouteSpec, index: (name: string) => number): Buffer => {
  const header = Buffer.alloc(12);
  header.writeUInt8(addressFamily(prefixFamily(route.to)), 0);
  header.writeUInt8(lengthOf(route.to), 1);
  header.writeUInt8(RT_TABLE_MAIN, 4);
  header.writeUInt8(RTPROT_DNET, 5);
  header.writeUInt8(route.onLink ? scope.LINK : scope.UNIVERSE, 6);
  header.writeUInt8(RTN_UNICAST, 7);
  return Buffer.concat([
    header,
    ...(lengthOf(route.to) === 0 ? [] : [attribute(rta.DST, ipToBytes(addressOf(route.to)))]),
    ...(route.via === undefined ? [] : [attribute(rta.GATEWAY, ipToBytes(route.via))]),
    ...(route.device === undefined ? [] : [attributeU32(rta.OIF, index(route.device))]),
    ...(route.metric === undefined ? [] : [attributeU32(rta.PRIORITY, route.metric)]),
    ...(route.source === undefined ? [] : [attribute(rta.PREFSRC, ipToBytes(route.source))]),
  ]);
};

export interface DecodedRoute extends RouteSpec {
  readonly table: number;
  readonly protocol: number;
  /** Kind of route: 1 is unicast (rtnetlink.h RTN_*). */
  readonly type: number;
}

const everywhere = { [AF.INET]: parsePrefix("0.0.0.0/0"), [AF.INET6]: parsePrefix("::/0") } as Record<number, Prefix>;

/**
 * Body of an RTM_NEWROUTE from the kernel; undefined for families that are not IP.
 * @param name the device of an index
 * @throws NetworkError `malformed-netlink`
 */
export const decodeRoute = (body: Buffer, name: (index: number) => string | undefined): DecodedRoute | undefined => {
  if (body.length < 12) throw malformed("short route");
  const zero = everywhere[body.readUInt8(0)];
  if (zero === undefined) return undefined;
  const attributes = attributeMap(body.subarray(12));
  const u32 = (type: number): number | undefined => {
    const value = attributes.get(type);
    return value && value.length >= 4 ? value.readUInt32LE() : undefined;
  };
  const ip = (type: number) => {
    const value = attributes.get(type);
    return value && (value.length === 4 || value.length === 16) ? ipFromBytes(value) : undefined;
  };
  const to = ip(rta.DST);
  const via = ip(rta.GATEWAY);
  const out = u32(rta.OIF);
  const device = out === undefined ? undefined : name(out);
  const metric = u32(rta.PRIORITY);
  const source = ip(rta.PREFSRC);
  return {
    // The kernel keeps no route whose destination has bits past its length.
    to: to === undefined ? zero : (`${to}/${body.readUInt8(1)}` as Prefix),
    ...(via !== undefined && { via }),
    ...(device !== undefined && { device }),
    ...(metric !== undefined && { metric }),
    ...(source !== undefined && { source }),
    ...(body.readUInt8(6) === scope.LINK && { onLink: true }),
    table: u32(rta.TABLE) ?? body.readUInt8(4),
    protocol: body.readUInt8(5),
    type: body.readUInt8(7),
  };
};
