/** Numbers of the kernel's netlink headers; each group names its header under include/uapi/linux. */

/** netlink.h */
export const nlmsg = { NOOP: 1, ERROR: 2, DONE: 3, OVERRUN: 4 } as const;
/** netlink.h: NLM_F_* */
export const flag = {
  REQUEST: 0x1,
  MULTI: 0x2,
  ACK: 0x4,
  DUMP_INTR: 0x10,
  DUMP: 0x300,
  REPLACE: 0x100,
  EXCL: 0x200,
  CREATE: 0x400,
  APPEND: 0x800,
  CAPPED: 0x100,
  ACK_TLVS: 0x200,
} as const;
/** rtnetlink.h: RTM_* */
export const rtm = {
  NEWLINK: 16,
  DELLINK: 17,
  GETLINK: 18,
  SETLINK: 19,
  NEWADDR: 20,
  DELADDR: 21,
  GETADDR: 22,
  NEWROUTE: 24,
  DELROUTE: 25,
  GETROUTE: 26,
  NEWNEIGH: 28,
  DELNEIGH: 29,
  GETNEIGH: 30,
  NEWRULE: 32,
  DELRULE: 33,
  GETRULE: 34,
  GETNSID: 90,
  GETNEIGHTBL: 66,
} as const;
/** if_link.h: IFLA_* */
export const ifla = {
  ADDRESS: 1,
  IFNAME: 3,
  MTU: 4,
  LINK: 5,
  MASTER: 10,
  LINKINFO: 18,
  IFALIAS: 20,
  GROUP: 27,
  NET_NS_FD: 28,
  EXT_MASK: 29,
  LINK_NETNSID: 37,
} as const;
/** if_link.h: IFLA_INFO_*, and the data of each kind */
export const linkInfo = { KIND: 1, DATA: 2, SLAVE_DATA: 5 } as const;
export const vethInfo = { PEER: 1 } as const;
export const bridgeInfo = { STP_STATE: 5, VLAN_FILTERING: 7, MCAST_SNOOPING: 23 } as const;
/** if_link.h: IFLA_BRPORT_* */
export const bridgePortInfo = { HAIRPIN: 4, LEARNING: 8, UNICAST_FLOOD: 9, ISOLATED: 33 } as const;
export const vxlanInfo = {
  ID: 1,
  LOCAL: 4,
  LEARNING: 7,
  PORT: 15,
  PROXY: 11,
  L2MISS: 13,
  L3MISS: 14,
  LOCAL6: 17,
} as const;
export const macvlanInfo = { MODE: 1 } as const;
export const macvlanMode = { private: 1, vepa: 2, bridge: 4, passthru: 8 } as const;
export const ipvlanInfo = { MODE: 1 } as const;
export const ipvlanMode = { l2: 0, l3: 1, l3s: 2 } as const;
/** if.h: IFF_UP */
export const IFF_UP = 1;
/** if_addr.h */
export const ifa = { ADDRESS: 1, LOCAL: 2, BROADCAST: 4, FLAGS: 8 } as const;
export const IFA_F_NODAD = 0x02;
/** rtnetlink.h: RTA_*, tables, scopes */
export const rta = { DST: 1, OIF: 4, GATEWAY: 5, PRIORITY: 6, PREFSRC: 7, TABLE: 15 } as const;
export const RT_TABLE_MAIN = 254;
export const scope = { UNIVERSE: 0, LINK: 253 } as const;
export const RTN_UNICAST = 1;
/** Our own route protocol number (rtnetlink.h leaves those above 4 to user space): shown by `ip route` as `proto 215`. */
export const RTPROT_DNET = 215;
/** fib_rules.h: FRA_* */
export const fra = { DST: 1, SRC: 2, PRIORITY: 6, PROTOCOL: 21, TABLE: 15 } as const;
export const FR_ACT_TO_TBL = 1;
/** net_namespace.h: NETNSA_* */
export const netnsa = { NSID: 1, FD: 3 } as const;
/** neighbour.h: NDA_*, NUD_*, NTF_* */
export const nda = { DST: 1, LLADDR: 2, CACHEINFO: 3, VNI: 7, IFINDEX: 8, MASTER: 9 } as const;
/** neighbour.h: NDTA_*, of tables of neighbours */
export const ndta = { NAME: 1, THRESH3: 4, CONFIG: 5 } as const;
export const NUD_PERMANENT = 0x80;
export const NUD_NOARP = 0x40;
export const NUD_REACHABLE = 0x02;
export const NTF_SELF = 0x02;
export const NTF_MASTER = 0x04;
export const AF = { UNSPEC: 0, INET: 2, BRIDGE: 7, INET6: 10, NETLINK: 16 } as const;

/** A dump of links leaves their counters out: half of its bytes. */
export const RTEXT_FILTER_SKIP_STATS = 1 << 3;
