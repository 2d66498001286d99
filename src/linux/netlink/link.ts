import { familyOf, ipFromBytes, ipToBytes } from "../../net/ip.ts";
import { macFromBytes, macToBytes } from "../../net/mac.ts";
import type { ObservedLink } from "../kernel.ts";
import type { BridgePort, LinkChange, LinkSpec } from "../plan.ts";
import {
  bridgeInfo,
  bridgePortInfo,
  IFF_UP,
  ifla,
  ipvlanInfo,
  ipvlanMode,
  linkInfo,
  macvlanInfo,
  macvlanMode,
  RTEXT_FILTER_SKIP_STATS,
  rtm,
  vethInfo,
  vxlanInfo,
} from "./constants.ts";
import {
  attribute,
  attributeMap,
  attributeText0,
  attributeU8,
  attributeU16be,
  attributeU32,
  cString,
  malformed,
  nest,
} from "./message.ts";

/** What a link's encoding needs to know: indexes of other links, descriptors of other namespaces. */
export interface LinkContext {
  index(name: string): number;
  namespaceFd(namespace: string): number;
}

/** struct ifinfomsg of rtnetlink.h, 16 bytes. */
export const ifinfo = (options: { index?: number; flags?: number; change?: number; family?: number } = {}): Buffer => {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt8(options.family ?? 0, 0);
  bytes.writeInt32LE(options.index ?? 0, 4);
  bytes.writeUInt32LE(options.flags ?? 0, 8);
  bytes.writeUInt32LE(options.change ?? 0, 12);
  return bytes;
};

/** Body of an RTM_NEWLINK that makes the link. The alias follows in a change: the kernel ignores it here for some kinds. */
export const encodeLinkAdd = (link: LinkSpec, context: LinkContext): Buffer => {
  const parent = link.kind === "macvlan" || link.kind === "ipvlan" ? context.index(link.parent) : undefined;
  return Buffer.concat([
    ifinfo(link.up ? { flags: IFF_UP, change: IFF_UP } : {}),
    attributeText0(ifla.IFNAME, link.name),
    ...(link.mtu === undefined ? [] : [attributeU32(ifla.MTU, link.mtu)]),
    ...(link.mac === undefined ? [] : [attribute(ifla.ADDRESS, macToBytes(link.mac))]),
    ...(link.group === undefined ? [] : [attributeU32(ifla.GROUP, link.group)]),
    ...(link.master === undefined ? [] : [attributeU32(ifla.MASTER, context.index(link.master))]),
    ...(parent === undefined ? [] : [attributeU32(ifla.LINK, parent)]),
    nest(ifla.LINKINFO, attributeText0(linkInfo.KIND, link.kind), ...infoData(link, context)),
  ]);
};

const infoData = (link: LinkSpec, context: LinkContext): readonly Buffer[] => {
  switch (link.kind) {
    case "dummy":
      return [];
    case "bridge":
      return [
        nest(
          linkInfo.DATA,
          ...(link.stp === undefined ? [] : [attributeU32(bridgeInfo.STP_STATE, Number(link.stp))]),
          ...(link.vlanFiltering === undefined
            ? []
            : [attributeU8(bridgeInfo.VLAN_FILTERING, Number(link.vlanFiltering))]),
          ...(link.multicastSnooping === undefined
            ? []
            : [attributeU8(bridgeInfo.MCAST_SNOOPING, Number(link.multicastSnooping))]),
        ),
      ];
    case "veth":
      return [
        nest(
          linkInfo.DATA,
          nest(
            vethInfo.PEER,
            ifinfo(),
            attributeText0(ifla.IFNAME, link.peer.name),
            ...(link.peer.mtu === undefined ? [] : [attributeU32(ifla.MTU, link.peer.mtu)]),
            ...(link.peer.mac === undefined ? [] : [attribute(ifla.ADDRESS, macToBytes(link.peer.mac))]),
            attributeU32(ifla.NET_NS_FD, context.namespaceFd(link.peer.namespace)),
          ),
        ),
      ];
    case "vxlan":
      return [
        nest(
          linkInfo.DATA,
          attributeU32(vxlanInfo.ID, link.vni),
          attributeU16be(vxlanInfo.PORT, link.port),
          ...(link.local === undefined
            ? []
            : [attribute(familyOf(link.local) === 4 ? vxlanInfo.LOCAL : vxlanInfo.LOCAL6, ipToBytes(link.local))]),
          ...(["learning", "proxy", "l2miss", "l3miss"] as const).flatMap((name) =>
            link[name] === undefined ? [] : [attributeU8(vxlanFlag[name], Number(link[name]))],
          ),
        ),
      ];
    case "macvlan":
      return [nest(linkInfo.DATA, attributeU32(macvlanInfo.MODE, macvlanMode[link.mode]))];
    case "ipvlan":
      return [nest(linkInfo.DATA, ipvlanModeAttribute(link.mode))];
  }
};

const vxlanFlag = {
  learning: vxlanInfo.LEARNING,
  proxy: vxlanInfo.PROXY,
  l2miss: vxlanInfo.L2MISS,
  l3miss: vxlanInfo.L3MISS,
} as const;

const ipvlanModeAttribute = (mode: keyof typeof ipvlanMode): Buffer => {
  const value = Buffer.alloc(2);
  value.writeUInt16LE(ipvlanMode[mode]);
  return attribute(ipvlanInfo.MODE, value);
};

/** Body of an RTM_NEWLINK that makes a link in another namespace, with nothing that is known only there. */
export const encodeLinkAddIn = (link: LinkSpec, namespace: string, context: LinkContext): Buffer => {
  const { master: _master, up: _up, ...alone } = link;
  return Buffer.concat([encodeLinkAdd(alone, context), attributeU32(ifla.NET_NS_FD, context.namespaceFd(namespace))]);
};

/** Body of an RTM_NEWLINK that changes how a link behaves as a bridge's port; the link is given by index or by name. */
export const encodeBridgePort = (link: number | string, port: BridgePort): Buffer =>
  Buffer.concat([
    ifinfo(typeof link === "number" ? { index: link } : {}),
    ...(typeof link === "string" ? [attributeText0(ifla.IFNAME, link)] : []),
    nest(
      ifla.LINKINFO,
      attributeText0(linkInfo.KIND, "bridge_slave"),
      nest(
        linkInfo.SLAVE_DATA,
        // IFLA_BRPORT_MODE is the hairpin mode.
        ...(port.hairpin === undefined ? [] : [attributeU8(bridgePortInfo.HAIRPIN, Number(port.hairpin))]),
        ...(port.learning === undefined ? [] : [attributeU8(bridgePortInfo.LEARNING, Number(port.learning))]),
        ...(port.flood === undefined ? [] : [attributeU8(bridgePortInfo.UNICAST_FLOOD, Number(port.flood))]),
        ...(port.isolated === undefined ? [] : [attributeU8(bridgePortInfo.ISOLATED, Number(port.isolated))]),
      ),
    ),
  ]);

/** Counters, which nobody reads here, are half of what the kernel says of a link. */
const withoutCounters = attributeU32(ifla.EXT_MASK, RTEXT_FILTER_SKIP_STATS);

/** An RTM_GETLINK of one link by its name or index; for a dump, of all. */
export const getLinkRequest = (link?: string | number): { readonly type: number; readonly body: Buffer } => ({
  type: rtm.GETLINK,
  body: Buffer.concat([
    ifinfo(typeof link === "number" ? { index: link } : {}),
    ...(typeof link === "string" ? [attributeText0(ifla.IFNAME, link)] : []),
    withoutCounters,
  ]),
});

/** Body of an RTM_SETLINK of a link given by index or, where nobody knows its index yet, by name; without changes also of RTM_DELLINK. */
export const encodeLinkSet = (link: number | string, set: LinkChange, context: LinkContext): Buffer =>
  Buffer.concat([
    ifinfo({
      ...(typeof link === "number" && { index: link }),
      ...(set.up !== undefined && { flags: set.up ? IFF_UP : 0, change: IFF_UP }),
    }),
    ...(typeof link === "string" ? [attributeText0(ifla.IFNAME, link)] : []),
    ...(set.name === undefined ? [] : [attributeText0(ifla.IFNAME, set.name)]),
    ...(set.mtu === undefined ? [] : [attributeU32(ifla.MTU, set.mtu)]),
    ...(set.mac === undefined ? [] : [attribute(ifla.ADDRESS, macToBytes(set.mac))]),
    ...(set.master === undefined ? [] : [attributeU32(ifla.MASTER, set.master === "" ? 0 : context.index(set.master))]),
    // IFALIASZ of if.h: 256 bytes with the NUL.
    ...(set.alias === undefined ? [] : [attribute(ifla.IFALIAS, Buffer.from(set.alias).subarray(0, 255))]),
  ]);

/** A link as a dump shows it; addresses come from another dump. */
export type DecodedLink = Omit<ObservedLink, "addresses"> & {
  /** Where the link's parent, other end or underlay is in another namespace: that one's number here. */
  readonly otherNamespace?: number;
  /** Of a bridge's port. */
  readonly hairpin?: boolean;
};

/** Body of an RTM_NEWLINK from the kernel. @throws NetworkError `malformed-netlink` */
export const decodeLink = (body: Buffer): DecodedLink => {
  if (body.length < 16) throw malformed("short link");
  const attributes = attributeMap(body.subarray(16));
  const info = attributeMap(attributes.get(ifla.LINKINFO) ?? Buffer.alloc(0));
  const u32 = (type: number): number | undefined => {
    const value = attributes.get(type);
    return value && value.length >= 4 ? value.readUInt32LE() : undefined;
  };
  const address = attributes.get(ifla.ADDRESS);
  const alias = attributes.get(ifla.IFALIAS);
  const kind = info.get(linkInfo.KIND);
  const data = info.get(linkInfo.DATA);
  const master = u32(ifla.MASTER);
  const peer = u32(ifla.LINK);
  const otherNamespace = u32(ifla.LINK_NETNSID);
  const kindName = kind && cString(kind);
  const hairpin = attributeMap(info.get(linkInfo.SLAVE_DATA) ?? Buffer.alloc(0)).get(bridgePortInfo.HAIRPIN);
  return {
    index: body.readInt32LE(4),
    name: cString(attributes.get(ifla.IFNAME) ?? Buffer.alloc(0)),
    mtu: u32(ifla.MTU) ?? 0,
    up: (body.readUInt32LE(8) & IFF_UP) !== 0,
    ...(kindName !== undefined && { kind: kindName }),
    ...(alias && { alias: cString(alias) }),
    ...(address?.length === 6 && { mac: macFromBytes(address) }),
    ...(master !== undefined && master !== 0 && { master }),
    ...(peer !== undefined && peer !== 0 && { peer }),
    ...(otherNamespace !== undefined && { otherNamespace }),
    ...(hairpin?.length === 1 && { hairpin: hairpin[0] === 1 }),
    ...(kindName === "vxlan" && data && { vxlan: decodeVxlan(data) }),
  };
};

const decodeVxlan = (data: Buffer): NonNullable<DecodedLink["vxlan"]> => {
  const values = attributeMap(data);
  const local = values.get(vxlanInfo.LOCAL) ?? values.get(vxlanInfo.LOCAL6);
  const set = (type: number): boolean => values.get(type)?.[0] === 1;
  const vni = values.get(vxlanInfo.ID);
  const port = values.get(vxlanInfo.PORT);
  return {
    vni: vni && vni.length >= 4 ? vni.readUInt32LE() : 0,
    port: port && port.length >= 2 ? port.readUInt16BE() : 0,
    ...(local && (local.length === 4 || local.length === 16) && { local: ipFromBytes(local) }),
    learning: set(vxlanInfo.LEARNING),
    proxy: set(vxlanInfo.PROXY),
    l2miss: set(vxlanInfo.L2MISS),
    l3miss: set(vxlanInfo.L3MISS),
  };
};
