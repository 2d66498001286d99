import { describe, expect, it } from "vitest";
import { ipToBytes, parseIp } from "../../src/net/ip.ts";
import { macToBytes, parseMac } from "../../src/net/mac.ts";
import { eventually } from "../own-host.ts";
import { endpointOf, hostOf, type LanHost, overlayNetwork, useLan, wire } from "./lan.ts";

/** Encapsulated frames made by hand, sent from a neighbour on the LAN: they must change nothing. */

const hosts = useLan(3);
const program = new URL("./datagram.cjs", import.meta.url).pathname;
const network = overlayNetwork("multihost", 256, ["10.0.3.0/24"]);
const a = endpointOf("a", "10.0.3.2/24");
const a2 = endpointOf("a2", "10.0.3.9/24");
const b = endpointOf("b", "10.0.3.3/24");

/** VXLAN (RFC 7348): flags with the I bit, VNI; then the frame. */
const vxlan = (vni: number, frame: Buffer): string => {
  const header = Buffer.alloc(8);
  header.writeUInt8(0x08, 0);
  header.writeUIntBE(vni, 4, 3);
  return Buffer.concat([header, frame]).toString("hex");
};

const ethernet = (to: string, from: string, type: number, payload: Buffer): Buffer => {
  const kind = Buffer.alloc(2);
  kind.writeUInt16BE(type);
  const destination = to === "ff:ff:ff:ff:ff:ff" ? Buffer.alloc(6, 0xff) : macToBytes(parseMac(to));
  return Buffer.concat([destination, macToBytes(parseMac(from)), kind, payload]);
};

/** An ARP announcement (RFC 826): `ip` is at `mac`. */
const announcement = (ip: string, mac: string): Buffer => {
  const body = Buffer.from("0001080006040002", "hex");
  const who = Buffer.concat([macToBytes(parseMac(mac)), ipToBytes(parseIp(ip))]);
  return ethernet("ff:ff:ff:ff:ff:ff", mac, 0x0806, Buffer.concat([body, who, who]));
};

/** A frame for sandbox a that carries no protocol anybody knows (IEEE 802 local experimental). */
const frame = (from: string): Buffer => ethernet("02:42:0a:00:03:02", from, 0x88b5, Buffer.alloc(46));

const inject = (from: LanHost, source: string, to: LanHost, hex: string): void =>
  void from.run(process.execPath, program, "send", to.host.vtep, "4789", source, hex);

/** Frames that sandbox a received. */
const received = (): number => {
  const [link] = JSON.parse(hostOf(hosts, 1).in(a, "ip", "-j", "-s", "link", "show", "eth0")) as [
    { stats64: { rx: { packets: number } } },
  ];
  return link.stats64.rx.packets;
};

/** Who is where, by everything that remembers it. */
const tables = (): readonly string[] => {
  const one = hostOf(hosts, 1);
  return [
    one.inside(network, "bridge", "fdb", "show"),
    one.inside(network, "ip", "neighbor"),
    one.in(a, "ip", "neighbor", "show", "nud", "reachable", "nud", "stale").replace(/ (STALE|REACHABLE|DELAY)/g, ""),
  ];
};

const setUp = async () => {
  const [one, two, attacker] = [hostOf(hosts, 1), hostOf(hosts, 2), hostOf(hosts, 3)];
  await wire(network, [
    [one, a],
    [one, a2],
    [two, b],
  ]);
  // A neighbour that was not heard of for a while is asked again, 5 s after it was last used: one more frame to be counted.
  one.in(a2, "sysctl", "-qw", "net.ipv4.neigh.eth0.delay_first_probe_time=600");
  expect(one.ping(a, "10.0.3.3")).toBe(true);
  expect(one.ping(a, "10.0.3.9")).toBe(true);
  return { one, two, attacker };
};

/** Frames of a member arrive: what was injected before has been dealt with by then. */
const settle = async (two: LanHost, one: LanHost, count: number): Promise<void> => {
  inject(two, two.host.vtep, one, vxlan(256, frame("02:42:0a:00:03:03")));
  await eventually("the member's frame arrives", () => received() > count);
};

describe("injected frames", () => {
  it("from a host that has not the network are dropped", async () => {
    const { one, two, attacker } = await setUp();
    const [before, count] = [tables(), received()];
    for (const bytes of [
      frame("02:42:0a:00:03:03"),
      frame("02:42:66:66:66:66"),
      announcement("10.0.3.3", "02:42:66:66:66:66"),
    ]) {
      inject(attacker, "192.168.50.3", one, vxlan(256, bytes));
    }
    await settle(two, one, count);
    expect(received()).toBe(count + 1);
    expect(tables()).toEqual(before);
    // It is the table that keeps them out.
    one.run("nft", "delete", "table", "inet", `dnet_overlay_${network.id.slice(0, 10)}`);
    inject(attacker, "192.168.50.3", one, vxlan(256, frame("02:42:0a:00:03:03")));
    await eventually("the frame arrives without the table", () => received() === count + 2);
  });

  it("CVE-2023-28842: are dropped from before the first host is known", async () => {
    const [one, attacker] = [hostOf(hosts, 1), hostOf(hosts, 3)];
    await one.arrive(network, []);
    await one.attach(network, a);
    const count = received();
    inject(attacker, "192.168.50.3", one, vxlan(256, frame("02:42:0a:00:03:03")));
    await one.tellHosts(network, [hostOf(hosts, 2)]);
    await settle(hostOf(hosts, 2), one, count);
    expect(received()).toBe(count + 1);
  });

  it("CVE-2023-28840: are dropped whatever an administrator accepts before, and no accept of ours opens the port", async () => {
    const { one, two, attacker } = await setUp();
    const ours = () => one.run("nft", "list", "table", "inet", `dnet_overlay_${network.id.slice(0, 10)}`);
    expect(ours()).not.toMatch(/hook input .*policy drop/);
    one.run(
      "nft",
      "add table inet admin; add chain inet admin input { type filter hook input priority -400; policy accept; }; add rule inet admin input udp dport 4789 accept",
    );
    const [before, count] = [tables(), received()];
    inject(attacker, "192.168.50.3", one, vxlan(256, frame("02:42:0a:00:03:03")));
    await settle(two, one, count);
    expect([received(), tables()]).toEqual([count + 1, before]);
    // Nor the other way round: what the administrator drops stays dropped.
    one.run("nft", "insert rule inet admin input udp dport 4789 counter drop");
    inject(two, two.host.vtep, one, vxlan(256, frame("02:42:0a:00:03:03")));
    await eventually("it came to the administrator's rule", () =>
      / packets 1 /.test(one.run("nft", "list", "chain", "inet", "admin", "input")),
    );
    expect(received()).toBe(count + 1);
    one.run("nft", "delete", "table", "inet", "admin");
  });

  it("for an unknown VNI go nowhere", async () => {
    const { one, two } = await setUp();
    const [before, count] = [tables(), received()];
    for (const vni of [0, 1, 255, 257, 0xffffff])
      inject(two, two.host.vtep, one, vxlan(vni, frame("02:42:0a:00:03:03")));
    await settle(two, one, count);
    expect(received()).toBe(count + 1);
    expect(tables()).toEqual(before);
  });

  it("of a member with a sender that is another's teach nobody anything", async () => {
    const { one, two } = await setUp();
    const [before, count] = [tables(), received()];
    // The MAC of a sandbox here, of one elsewhere, of the gateway, and of nobody.
    for (const mac of ["02:42:0a:00:03:09", "02:42:0a:00:03:03", "02:42:0a:00:03:01", "02:42:66:66:66:66"]) {
      inject(two, two.host.vtep, one, vxlan(256, frame(mac)));
    }
    await eventually("all arrive", () => received() === count + 4);
    expect(tables()).toEqual(before);
    expect(one.ping(a, "10.0.3.9")).toBe(true);
    expect(one.ping(a, "10.0.3.3")).toBe(true);
  });

  it("with a shape that is none do no harm", async () => {
    const { one, two } = await setUp();
    const count = received();
    const valid = vxlan(256, frame("02:42:0a:00:03:03"));
    for (const hex of [
      "",
      "08",
      valid.slice(0, 16),
      valid.slice(0, 30),
      `00${valid.slice(2)}`,
      `ff${valid.slice(2)}`,
    ]) {
      inject(two, two.host.vtep, one, hex);
    }
    await settle(two, one, count);
    expect(one.ping(a, "10.0.3.3")).toBe(true);
  });

  it("of a sandbox that takes its neighbour's MAC leave the neighbour its traffic", async () => {
    const { one, two } = await setUp();
    // a2 sends with the MAC of a.
    one.in(a2, "ip", "link", "set", "eth0", "address", "02:42:0a:00:03:02");
    one.ping(a2, "10.0.3.3", "-w", "1");
    expect(one.ping(a, "10.0.3.3")).toBe(true);
    expect(two.ping(b, "10.0.3.2")).toBe(true);
    expect(one.inside(network, "bridge", "fdb", "show")).toMatch(
      /02:42:0a:00:03:02 dev veth612d2d2d2d2 master br0 static/,
    );
  });
});
