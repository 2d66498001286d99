import { bpf, instruction, netlinkAttribute, swapped } from "./bpf.ts";
import { IFF_UP, ifla, rtm } from "./netlink/constants.ts";

/** nlmsghdr: where the type is; then ifinfomsg of 16 bytes with the flags at 8; then attributes. */
const [typeAt, flagsAt, attributesAt] = [4, 24, 32];
const [accept, drop] = [16, 17];

const attribute = (type: number): readonly Buffer[] => [
  instruction(bpf.indexNumber, 0, 0, type),
  instruction(bpf.loadNumber, 0, 0, attributesAt),
  instruction(bpf.loadWord, 0, 0, netlinkAttribute),
];

/**
 * Of what the kernel tells of links and addresses, lets through what `linkLosses` may care for: addresses that go, and links with an
 * alias that go, are down, or have no bridge. What every attachment makes, a dozen of messages, wakes nobody.
 */
export const lossesOnly = Buffer.concat([
  instruction(bpf.loadHalf, 0, 0, typeAt),
  instruction(bpf.jumpEqual, accept - 2, 0, swapped(rtm.DELADDR)),
  instruction(bpf.jumpEqual, 1, 0, swapped(rtm.DELLINK)),
  instruction(bpf.jumpEqual, 0, drop - 4, swapped(rtm.NEWLINK)),
  ...attribute(ifla.IFALIAS),
  instruction(bpf.jumpEqual, drop - 8, 0, 0),
  instruction(bpf.loadHalf, 0, 0, typeAt),
  instruction(bpf.jumpEqual, accept - 10, 0, swapped(rtm.DELLINK)),
  instruction(bpf.loadByte, 0, 0, flagsAt),
  instruction(bpf.jumpAnySet, 0, accept - 12, IFF_UP),
  ...attribute(ifla.MASTER),
  instruction(bpf.jumpEqual, 0, 1, 0),
  instruction(bpf.keep, 0, 0, 0xffff_ffff),
  instruction(bpf.keep, 0, 0, 0),
]);
