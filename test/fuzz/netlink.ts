import { readFileSync } from "node:fs";
import { decodeAddress } from "../../src/linux/netlink/address.ts";
import { flowDeletion, flowFilter } from "../../src/linux/netlink/conntrack.ts";
import { flag, nlmsg } from "../../src/linux/netlink/constants.ts";
import { decodeLink } from "../../src/linux/netlink/link.ts";
import { decodeMessages, parseAck } from "../../src/linux/netlink/message.ts";
import { decodeNeighbor } from "../../src/linux/netlink/neighbor.ts";
import { RulesetChanges } from "../../src/linux/netlink/nftables.ts";
import { decodeRoute } from "../../src/linux/netlink/route.ts";
import { decodeRule } from "../../src/linux/netlink/rule.ts";
import { parseIp } from "../../src/net/ip.ts";
import { fuzzTarget, nearly } from "./target.ts";

const captured = JSON.parse(readFileSync(new URL("../golden/netlink.json", import.meta.url), "utf8")) as readonly {
  readonly hex: string;
}[];
const messages = captured.map(({ hex }) => Buffer.from(hex, "hex"));
const bodies = messages.map((message) => message.subarray(16));

const decoders: readonly ((bytes: Buffer) => unknown)[] = [
  decodeMessages,
  decodeLink,
  decodeAddress,
  decodeRule,
  decodeNeighbor,
  (body) => decodeRoute(body, () => "x"),
  (body) => parseAck({ type: nlmsg.ERROR, flags: flag.ACK_TLVS, sequence: 1, body }),
  flowFilter([{ protocol: "udp", family: 4, port: 53, count: 1 }], [parseIp("203.0.113.1")]),
  flowDeletion,
  (bytes) => new RulesetChanges().read(bytes),
];

export const netlink = fuzzTarget("netlink", nearly([...messages, ...bodies]), () => ({
  check(bytes) {
    const refusals: unknown[] = [];
    for (const decode of decoders) {
      try {
        decode(bytes);
      } catch (error) {
        refusals.push(error);
      }
    }
    // A refusal of one must not hide a fault of the next.
    const fault = refusals.find((error) => !(error instanceof Error && error.name === "NetworkError"));
    if (fault) throw fault;
  },
}));
