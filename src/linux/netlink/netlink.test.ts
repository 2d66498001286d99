import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ipFromBigInt, parseIp } from "../../net/ip.ts";
import { macFromBytes, parseMac } from "../../net/mac.ts";
import { makePrefix, parseInterfaceAddress, parsePrefix, withLength } from "../../net/prefix.ts";
import { decodeAddress, encodeAddress } from "./address.ts";
import { ifla, linkInfo } from "./constants.ts";
import { decodeLink, encodeBridgePort, encodeLinkAdd, encodeLinkAddIn, encodeLinkSet } from "./link.ts";
import { attribute, decodeAttributes, decodeMessages, encodeMessage } from "./message.ts";
import { decodeNeighbor, encodeBridgeFdb, encodeFdb, encodeNeighbor } from "./neighbor.ts";
import { decodeRoute, encodeRoute } from "./route.ts";
import { decodeRule, encodeRule } from "./rule.ts";

/** Indexes as they are in scripts/capture-netlink.sh. */
const indexes: Record<string, number> = { lo: 1, lan: 2, vx: 3, vb: 4, va: 5, pt: 7 };
const index = (name: string): number => indexes[name] ?? 0;
const context = { index, namespaceFd: () => 77 };
const mac = parseMac("02:42:0a:00:00:07");

const oracle = JSON.parse(
  readFileSync(new URL("../../../test/golden/netlink.json", import.meta.url), "utf8"),
) as readonly { command: string; hex: string }[];

type Tree = readonly (readonly [number, string | Tree])[];

/** Attributes as a tree in order of type; `path` says which are nested. */
const tree = (bytes: Buffer, nested: (type: number) => ((value: Buffer) => string | Tree) | undefined): Tree =>
  decodeAttributes(bytes)
    .map(({ type, value }) => [type, nested(type)?.(value) ?? value.toString("hex")] as const)
    .sort(([a], [b]) => a - b);

const plain = () => undefined;
const kindOf = (info: Buffer) =>
  decodeAttributes(info)
    .find(({ type }) => type === linkInfo.KIND)
    ?.value.toString();
/** An RTM_NEWLINK's attributes; the descriptor of a peer's namespace and a name's closing NUL are no matter. */
const linkTree = (bytes: Buffer): Tree =>
  tree(bytes, (type) => {
    if (type === ifla.IFNAME) return (value) => value.toString().replace(/\0$/, "");
    if (type !== ifla.LINKINFO) return undefined;
    return (info) => {
      const kind = kindOf(info)?.replace(/\0$/, "");
      return tree(info, (inner) => {
        if (inner === linkInfo.KIND) return () => kind ?? "";
        if (kind === "veth") return (data) => tree(data, () => (peer) => linkTree(peer.subarray(16)));
        // iproute2 always sends IPVLAN_FLAGS (2), zero here.
        if (kind === "ipvlan") return (data) => tree(data, plain).filter(([t]) => t !== 2);
        return (data) => tree(data, plain);
      });
    };
  }).filter(([type]) => type !== ifla.NET_NS_FD);

const fixedHeader = { link: 16, address: 8, route: 12, rule: 12, neighbor: 12 } as const;

const ours: Readonly<Record<string, readonly [keyof typeof fixedHeader, Buffer]>> = {
  "ip link add name br9": [
    "link",
    encodeLinkAdd(
      { kind: "bridge", name: "br9", mtu: 1400, mac: parseMac("02:42:0a:00:00:01"), stp: false, vlanFiltering: true },
      context,
    ),
  ],
  "ip link add name br8": ["link", encodeLinkAdd({ kind: "bridge", name: "br8", multicastSnooping: false }, context)],
  "ip link add name v9": [
    "link",
    encodeLinkAdd(
      {
        kind: "veth",
        name: "v9",
        mtu: 1400,
        peer: { name: "p9", namespace: "x", mtu: 1400, mac: parseMac("02:42:0a:00:00:02") },
      },
      context,
    ),
  ],
  "ip link add name x9": [
    "link",
    encodeLinkAdd(
      {
        kind: "vxlan",
        name: "x9",
        vni: 256,
        port: 4789,
        local: parseIp("10.0.0.1"),
        learning: true,
        proxy: true,
        l2miss: true,
        l3miss: true,
      },
      context,
    ),
  ],
  "ip link add name x6": [
    "link",
    encodeLinkAdd(
      { kind: "vxlan", name: "x6", vni: 257, port: 4789, local: parseIp("fd00::1"), learning: true },
      context,
    ),
  ],
  "ip link add name x8": [
    "link",
    encodeLinkAddIn(
      { kind: "vxlan", name: "x8", vni: 258, port: 4789, learning: false, master: "x", up: true },
      "x",
      context,
    ),
  ],
  "ip link set dev pt": ["link", encodeBridgePort(7, { learning: false, flood: false })],
  "ip link add name m9": [
    "link",
    encodeLinkAdd({ kind: "macvlan", name: "m9", parent: "lan", mode: "bridge" }, context),
  ],
  "ip link add name i9": ["link", encodeLinkAdd({ kind: "ipvlan", name: "i9", parent: "lan", mode: "l3" }, context)],
  "ip link add name d9": ["link", encodeLinkAdd({ kind: "dummy", name: "d9" }, context)],
  "ip link set dev lan alias": ["link", encodeLinkSet(2, { alias: "dnet:1:2" }, context)],
  "ip link set dev lan up": ["link", encodeLinkSet(2, { up: true }, context)],
  "ip link set dev va master": ["link", encodeLinkSet(5, { master: "lan" }, context)],
  "ip link set dev va nomaster": ["link", encodeLinkSet(5, { master: "" }, context)],
  "ip link delete dev vb": ["link", encodeLinkSet(4, {}, context)],
  "ip address add 10": ["address", encodeAddress(2, parseInterfaceAddress("10.9.0.1/24"), { broadcast: true })],
  "ip address add fd": ["address", encodeAddress(2, parseInterfaceAddress("fd00:9::1/64"), { nodad: true })],
  "ip address delete": ["address", encodeAddress(2, parseInterfaceAddress("10.9.0.1/24"))],
  "ip route add default": [
    "route",
    encodeRoute({ to: parsePrefix("0.0.0.0/0"), via: parseIp("10.0.0.9"), device: "lan" }, index),
  ],
  "ip route add 10.7": [
    "route",
    encodeRoute(
      {
        to: parsePrefix("10.7.0.0/16"),
        via: parseIp("10.0.0.9"),
        device: "lan",
        metric: 5,
        source: parseIp("10.0.0.1"),
      },
      index,
    ),
  ],
  "ip -6 route add": ["route", encodeRoute({ to: parsePrefix("fd00:7::/64"), device: "lan" }, index)],
  "ip route add 10.8": ["route", encodeRoute({ to: parsePrefix("10.8.0.0/16"), device: "lan", onLink: true }, index)],
  "ip rule add priority 100": [
    "rule",
    encodeRule({ priority: 100, table: 300, from: parsePrefix("10.0.0.0/24"), to: parsePrefix("10.9.0.0/16") }),
  ],
  "ip rule add priority 101": ["rule", encodeRule({ priority: 101, table: 200, from: parsePrefix("10.0.0.0/24") })],
  "ip neighbor": ["neighbor", encodeNeighbor(2, parseIp("10.0.0.7"), mac)],
  "ip -6 neighbor": ["neighbor", encodeNeighbor(2, parseIp("fd00::7"), mac)],
  "bridge fdb replace 02:42:0a:00:00:07 dev pt": ["neighbor", encodeBridgeFdb(7, mac)],
  "bridge fdb replace 02:42:0a:00:00:07 dev vx": ["neighbor", encodeFdb(3, mac, parseIp("172.17.0.3"))],
  "bridge fdb append": ["neighbor", encodeFdb(3, macFromBytes([0, 0, 0, 0, 0, 0]), parseIp("172.17.0.3"))],
};

describe("the bytes of iproute2", () => {
  it.each(oracle)("$command", ({ command, hex }) => {
    const [message] = decodeMessages(Buffer.from(hex, "hex"));
    const [kind, body] = Object.entries(ours).find(([start]) => command.startsWith(start))?.[1] ?? [];
    if (message === undefined || kind === undefined || body === undefined) throw new Error(`no case for ${command}`);
    const length = fixedHeader[kind];
    expect(body.subarray(0, length).toString("hex")).toBe(message.body.subarray(0, length).toString("hex"));
    const shape = kind === "link" ? linkTree : (bytes: Buffer) => tree(bytes, plain);
    expect(shape(body.subarray(length))).toEqual(shape(message.body.subarray(length)));
  });
  it("covers every captured command", () => expect(Object.keys(ours)).toHaveLength(oracle.length));
});

const ip4 = fc.bigInt(1n, 0xfffffffen).map((value) => ipFromBigInt(value, 4));
const ip6 = fc.bigInt(1n << 125n, (1n << 128n) - 1n).map((value) => ipFromBigInt(value, 6));
const anyMac = fc.uint8Array({ minLength: 6, maxLength: 6 }).map((bytes) => macFromBytes(bytes));
const u32 = fc.integer({ min: 1, max: 0x7fffffff });
const prefix = fc.oneof(
  fc.tuple(ip4, fc.integer({ min: 1, max: 32 })).map(([ip, length]) => makePrefix(ip, length)),
  fc.tuple(ip6, fc.integer({ min: 1, max: 128 })).map(([ip, length]) => makePrefix(ip, length)),
);
const optional = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });

describe("round trips", () => {
  it("messages", () =>
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 16, max: 999 }), u32, fc.uint8Array({ maxLength: 64 }))),
        (all) => {
          const messages = all.map(([type, sequence, body]) => ({ type, flags: 5, sequence, body: Buffer.from(body) }));
          expect(decodeMessages(Buffer.concat(messages.map(encodeMessage)))).toEqual(messages);
        },
      ),
    ));
  it("attributes", () =>
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.integer({ min: 1, max: 99 }), fc.uint8Array({ maxLength: 33 }))), (all) => {
        const attributes = all.map(([type, value]) => ({ type, value: Buffer.from(value) }));
        expect(decodeAttributes(Buffer.concat(attributes.map(({ type, value }) => attribute(type, value))))).toEqual(
          attributes,
        );
      }),
    ));
  it("addresses", () =>
    fc.assert(
      fc.property(u32, fc.oneof(ip4, ip6), fc.integer({ min: 1, max: 32 }), fc.boolean(), (link, ip, length, nodad) => {
        const address = withLength(ip, length);
        const six = ip.includes(":");
        expect(decodeAddress(encodeAddress(link, address, { nodad }))).toEqual({
          index: link,
          address,
          nodad: six && nodad,
        });
      }),
    ));
  it("routes", () =>
    fc.assert(
      fc.property(prefix, optional(u32), fc.boolean(), (to, metric, onLink) => {
        const via = onLink ? undefined : to.includes(":") ? parseIp("fd00::9") : parseIp("10.0.0.9");
        const route = {
          to,
          ...(via && { via }),
          device: "lan",
          ...(metric !== undefined && { metric }),
          ...(onLink && { onLink }),
        };
        expect(decodeRoute(encodeRoute(route, index), () => "lan")).toEqual({
          ...route,
          table: 254,
          protocol: 215,
          type: 1,
        });
      }),
    ));
  it("rules", () =>
    fc.assert(
      fc.property(u32, u32, prefix, (priority, table, from) => {
        expect(decodeRule(encodeRule({ priority, table, from }))).toEqual({ priority, table, from, protocol: 215 });
      }),
    ));
  it("neighbours and forwarding entries", () =>
    fc.assert(
      fc.property(u32, fc.oneof(ip4, ip6), anyMac, (link, ip, address) => {
        const expected = { index: link, ip, mac: address, permanent: true };
        expect(decodeNeighbor(encodeNeighbor(link, ip, address))).toEqual({ ...expected, fdb: false });
        expect(decodeNeighbor(encodeFdb(link, address, ip))).toEqual({ ...expected, fdb: true });
      }),
    ));
  it("links", () =>
    fc.assert(
      fc.property(
        fc.constantFrom("bridge", "dummy"),
        fc.integer({ min: 68, max: 65535 }),
        anyMac,
        (kind, mtu, address) => {
          const body = encodeLinkAdd({ kind, name: "x0", mtu, mac: address, up: true } as never, context);
          expect(decodeLink(body)).toEqual({ index: 0, name: "x0", kind, mtu, mac: address, up: true });
        },
      ),
    ));
});
