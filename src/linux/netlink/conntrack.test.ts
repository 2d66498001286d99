import { describe, expect, it } from "vitest";
import { parseIp } from "../../net/ip.ts";
import type { FlowMatch } from "../plan.ts";
import { flowDeletion, flowFilter } from "./conntrack.ts";

/**
 * Bodies of IPCTNL_MSG_CT_NEW in the form of nfnetlink_conntrack.h: UDP 203.0.113.9:1001 to 203.0.113.1:5353, and TCP 203.0.113.9:1004 to
 * 203.0.113.1:8000 led to 172.18.0.2:80.
 */
const attribute = (type: number, ...parts: readonly (Buffer | string)[]): Buffer => {
  const value = Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part, "hex") : part)));
  const bytes = Buffer.alloc((4 + value.length + 3) & ~3);
  bytes.writeUInt16LE(4 + value.length, 0);
  bytes.writeUInt16LE(type, 2);
  value.copy(bytes, 4);
  return bytes;
};
const nested = 0x8000;
const tuple = (source: string, destination: string, protocol: string, from: string, to: string): Buffer[] => [
  attribute(nested | 1, attribute(1, source), attribute(2, destination)),
  attribute(nested | 2, attribute(1, protocol), attribute(2, from), attribute(3, to)),
];
const host = "cb007101";
const client = "cb007109";
const header = Buffer.from("02000000", "hex");
const udp = Buffer.concat([
  header,
  attribute(nested | 1, ...tuple(client, host, "11", "03e9", "14e9")),
  attribute(nested | 2, ...tuple(host, client, "11", "14e9", "03e9")),
  attribute(3, "0000000e"),
  attribute(12, "deadbeef"),
  attribute(18, "0007"),
]);
const tcp = Buffer.concat([
  header,
  attribute(nested | 1, ...tuple(client, host, "06", "03ec", "1f40")),
  attribute(nested | 2, ...tuple("ac120002", client, "06", "0050", "03ec")),
]);
const icmp = Buffer.concat([
  header,
  attribute(
    nested | 1,
    attribute(nested | 1, attribute(1, client), attribute(2, host)),
    attribute(nested | 2, attribute(1, "01")),
  ),
]);

const local = [parseIp("203.0.113.1")];
const match = (more: Partial<FlowMatch>): FlowMatch => ({ protocol: "udp", family: 4, port: 5353, count: 1, ...more });
const wanted = (body: Buffer, more: Partial<FlowMatch>, own = local) => flowFilter([match(more)], own)(body);

describe("flows", () => {
  it("are told by protocol, port and address of the way they came", () => {
    expect(wanted(udp, {})).toBe(true);
    expect(wanted(udp, { port: 5350, count: 4 })).toBe(true);
    expect(wanted(udp, { port: 5350, count: 3 })).toBe(false);
    expect(wanted(udp, { protocol: "tcp" })).toBe(false);
    expect(wanted(udp, { family: 6 })).toBe(false);
    expect(wanted(udp, { address: parseIp("203.0.113.1") }, [])).toBe(true);
    expect(wanted(udp, { address: parseIp("203.0.113.2") })).toBe(false);
    // By the host's port, not by the sandbox's (moby 53384).
    expect(wanted(tcp, { protocol: "tcp", port: 80 })).toBe(false);
    expect(wanted(tcp, { protocol: "tcp", port: 8000 })).toBe(true);
  });

  it("in transit to an address that is not the host's are nobody's", () => {
    expect(wanted(udp, {}, [])).toBe(false);
  });

  it("that lead where they should stay", () => {
    const to = (address: string, port: number) => ({ unless: { address: parseIp(address), port } });
    const range = { protocol: "tcp", port: 7990, count: 20 } as const;
    expect(wanted(tcp, { ...range, ...to("172.18.0.2", 70) })).toBe(false);
    expect(wanted(tcp, { ...range, ...to("172.18.0.2", 80) })).toBe(true);
    expect(wanted(tcp, { ...range, ...to("172.18.0.3", 70) })).toBe(true);
  });

  it("of protocols without ports are passed over", () => {
    expect(wanted(icmp, {})).toBe(false);
  });

  it("are removed by their own tuple, id and zone", () => {
    const { type, body } = flowDeletion(udp);
    expect(type).toBe(0x102);
    const [original, id, zone] = [udp.subarray(4, 56), attribute(12, "deadbeef"), attribute(18, "0007")];
    expect(body).toEqual(Buffer.concat([header, original, zone, id]));
  });
});
