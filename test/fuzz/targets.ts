import { dnsFrames, dnsPackets, dnsTcp, dnsUdp } from "./dns.ts";
import { gossip, serf } from "./gossip.ts";
import { ipam } from "./ipam.ts";
import { netlink } from "./netlink.ts";
import { records } from "./records.ts";
import { rest } from "./rest.ts";
import type { FuzzTarget } from "./target.ts";
import { addressTexts, toml } from "./text.ts";

/** Everything that takes input from outside this process. */
export const targets: readonly FuzzTarget[] = [
  netlink,
  dnsPackets,
  dnsFrames,
  dnsUdp,
  dnsTcp,
  toml,
  addressTexts,
  rest,
  records,
  serf,
  gossip,
  ipam,
];
