import { describe, expect, it } from "vitest";
import { parseIp } from "../../src/net/ip.ts";
import { eventually, run, shell } from "../own-host.ts";
import { endpointOf, hostOf, overlayNetwork, peerOf, useLan, wire } from "./lan.ts";

const hosts = useLan(2);
const network = overlayNetwork("multihost", 256, ["10.0.3.0/24", "fd03::/64"]);
const a = endpointOf("a", "10.0.3.2/24", "fd03::2/64");
const b = endpointOf("b", "10.0.3.3/24", "fd03::3/64");
const c = endpointOf("c", "10.0.3.4/24", "fd03::4/64");

/** All that `ip`, `bridge` and `nft` show of the network on a host, without counters. */
const picture = (host: (typeof hosts)[number]): readonly string[] => [
  ...[
    ["ip", "-d", "link"],
    ["ip", "address"],
    ["ip", "route"],
    ["ip", "-6", "route"],
    ["ip", "neighbor", "show", "nud", "permanent"],
    ["bridge", "fdb", "show"],
  ].map(([program = "", ...args]) => host.inside(network, program, ...args).replace(/ \w+_timer +[\d.]+/g, "")),
  host.run("nft", "list", "ruleset"),
];

describe("an overlay network on two hosts", () => {
  it("carries IPv4 and IPv6 both ways, in the objects of the walk-through", async () => {
    const [one, two] = [hostOf(hosts, 1), hostOf(hosts, 2)];
    await wire(network, [
      [one, a],
      [two, b],
      [two, c],
    ]);
    for (const to of ["10.0.3.3", "10.0.3.4", "fd03::3", "fd03::4"]) expect(one.ping(a, to)).toBe(true);
    for (const to of ["10.0.3.2", "10.0.3.4", "fd03::2", "fd03::4"]) expect(two.ping(b, to)).toBe(true);
    const link = one.inside(network, "ip", "-d", "link", "show", "dev", "vxlan1");
    expect(link).toMatch(/vxlan id 256 local 192\.168\.50\.1 srcport 0 0 dstport 4789 nolearning proxy l2miss l3miss/);
    expect(link).toMatch(/mtu 1450 .* master br0/);
    expect(one.inside(network, "bridge", "fdb", "show", "dev", "vxlan1")).toMatch(
      /02:42:0a:00:03:03 dst 192\.168\.50\.2 (link-netnsid 0 )?self permanent/,
    );
    expect(one.inside(network, "ip", "neighbor")).toMatch(/10\.0\.3\.3 dev vxlan1 lladdr 02:42:0a:00:03:03 PERMANENT/);
    expect(one.inside(network, "ip", "-6", "neighbor")).toMatch(
      /fd03::3 dev vxlan1 lladdr 02:42:0a:00:03:03 PERMANENT/,
    );
    expect(one.inside(network, "ip", "address", "show", "br0")).toContain("10.0.3.1/24");
  });

  it("19, moby 53004: sends from the host's advertised address, whatever other address the route prefers", async () => {
    const [one, two] = [hostOf(hosts, 1), hostOf(hosts, 2)];
    shell(`
      ip -n ${one.name} link add eth9 type bridge
      ip -n ${one.name} address add 192.0.2.1/24 dev eth9
      ip -n ${one.name} link set eth9 up
      ip -n ${one.name} address add 192.168.50.101/24 dev eth0
      ip -n ${one.name} route replace 192.168.50.2/32 dev eth0 src 192.168.50.101`);
    expect(one.run("ip", "route", "get", "192.168.50.2")).toContain("src 192.168.50.101");
    two.run(
      "nft",
      `table inet senders { chain input { type filter hook prerouting priority -400; policy accept;
         udp dport 4789 ip saddr 192.168.50.1 counter
         udp dport 4789 ip saddr != 192.168.50.1 counter
      }; }`,
    );
    await wire(network, [
      [one, a],
      [two, b],
    ]);
    // Links that have just come up may drop what is sent first.
    await eventually("an answer", () => one.ping(a, "10.0.3.3"));
    const counted = [...two.run("nft", "list", "table", "inet", "senders").matchAll(/counter packets (\d+)/g)];
    const [advertised, others] = counted.map(([, packets]) => Number(packets));
    expect(advertised).toBeGreaterThan(0);
    expect(others).toBe(0);
  });

  it("answers ARP and neighbour solicitations for peers here: nothing of them crosses", async () => {
    const one = hostOf(hosts, 1);
    await wire(network, [[one, a]]);
    // Nobody has this host's address: an answer can only come from here.
    await one.know(network, { ...peerOf(b, one), vtep: parseIp("192.168.50.99") });
    expect(one.ping(a, "10.0.3.3", "-w", "1")).toBe(false);
    expect(one.ping(a, "fd03::3", "-w", "1")).toBe(false);
    expect(one.in(a, "ip", "neighbor", "show", "10.0.3.3")).toContain("lladdr 02:42:0a:00:03:03");
    expect(one.in(a, "ip", "-6", "neighbor", "show", "fd03::3")).toContain("lladdr 02:42:0a:00:03:03");
    expect(one.ping(a, "10.0.3.4", "-w", "1")).toBe(false);
    expect(one.in(a, "ip", "neighbor", "show", "10.0.3.4")).not.toContain("lladdr");
  });

  it("16, ln 2661, ln 1478, moby 24906: carries packets of the overlay's MTU whole and no larger ones", async () => {
    const [one, two] = [hostOf(hosts, 1), hostOf(hosts, 2)];
    await wire(network, [
      [one, a],
      [two, b],
    ]);
    // 20 bytes of IP and 8 of ICMP; the LAN has 1500.
    expect(one.ping(a, "10.0.3.3", "-M", "do", "-s", String(1450 - 28))).toBe(true);
    expect(one.ping(a, "10.0.3.3", "-M", "do", "-s", String(1450 - 27), "-w", "1")).toBe(false);
    expect(one.ping(a, "10.0.3.3", "-M", "dont", "-s", "4000")).toBe(true);
  });

  it("keeps networks apart, each with a VNI of its own", async () => {
    const [one, two] = [hostOf(hosts, 1), hostOf(hosts, 2)];
    const second = overlayNetwork("second", 257, ["10.0.3.0/24"]);
    const a2 = endpointOf("a2", "10.0.3.2/24");
    const d = endpointOf("d", "10.0.3.9/24");
    await wire(network, [
      [one, a],
      [two, b],
    ]);
    await wire(second, [
      [one, a2],
      [two, d],
    ]);
    expect(one.inside(second, "ip", "-d", "link", "show", "dev", "vxlan1")).toContain("vxlan id 257 ");
    expect(one.ping(a2, "10.0.3.9")).toBe(true);
    expect(one.ping(a, "10.0.3.9", "-w", "1")).toBe(false);
    expect(one.ping(a2, "10.0.3.3", "-w", "1")).toBe(false);
    await one.leave(second);
    expect(one.ping(a, "10.0.3.3")).toBe(true);
  });

  it("may be applied again, and after a restart: nothing changes and nothing stops", async () => {
    const [one, two] = [hostOf(hosts, 1), hostOf(hosts, 2)];
    await wire(network, [
      [one, a],
      [two, b],
    ]);
    const before = picture(one);
    await one.restart();
    await wire(network, [
      [one, a],
      [two, b],
    ]);
    expect(picture(one)).toEqual(before);
    expect(one.ping(a, "10.0.3.3")).toBe(true);
  });

  it("repairs what somebody took away", async () => {
    const [one, two] = [hostOf(hosts, 1), hostOf(hosts, 2)];
    const all = [
      [one, a],
      [two, b],
    ] as const;
    await wire(network, all);
    const before = picture(one);
    one.inside(network, "bridge", "fdb", "del", "02:42:0a:00:03:03", "dev", "vxlan1", "dst", "192.168.50.2", "self");
    one.inside(network, "ip", "neighbor", "del", "10.0.3.3", "dev", "vxlan1");
    one.inside(network, "ip", "link", "set", "vxlan1", "nomaster", "mtu", "1400");
    one.inside(network, "ip", "link", "set", "vxlan1", "down");
    one.run("nft", "flush", "ruleset");
    expect(one.ping(a, "10.0.3.3", "-w", "1")).toBe(false);
    await wire(network, all);
    expect(one.ping(a, "10.0.3.3")).toBe(true);
    // Ports are numbered anew when they join again.
    const shape = (lines: readonly string[]) =>
      lines.map((line) => line.replace(/port_(id|no) \S+|designated_port \d+/g, ""));
    expect(shape(picture(one))).toEqual(shape(before));
  });

  it("makes the device anew where the host's address is another", async () => {
    const [one, two] = [hostOf(hosts, 1), hostOf(hosts, 2)];
    await wire(network, [
      [one, a],
      [two, b],
    ]);
    const other = { ...one.host, vtep: parseIp("192.168.50.77") };
    one.run("ip", "address", "add", "192.168.50.77/24", "dev", "eth0");
    one.host = other;
    await wire(network, [
      [one, a],
      [two, b],
    ]);
    expect(one.inside(network, "ip", "-d", "link", "show", "dev", "vxlan1")).toContain("local 192.168.50.77");
    expect(one.ping(a, "10.0.3.3")).toBe(true);
  });

  it("leaves nothing when its last endpoint has left", async () => {
    const [one, two] = [hostOf(hosts, 1), hostOf(hosts, 2)];
    const before = one.run("ip", "-br", "link");
    await wire(network, [
      [one, a],
      [two, b],
    ]);
    await one.forget(network, peerOf(b, two));
    expect(one.inside(network, "ip", "neighbor", "show", "nud", "permanent")).toBe("");
    expect(one.inside(network, "bridge", "fdb", "show", "dev", "vxlan1")).not.toContain("dst");
    await one.detach(network, a);
    expect(one.inside(network, "ip", "-br", "link")).not.toContain("veth");
    await one.leave(network);
    expect(one.run("ip", "-br", "link")).toBe(before);
    expect(one.run("nft", "list", "ruleset")).toBe("");
    expect(run("ls", one.host.namespaceDir)).toBe("");
    expect(one.run("ss", "-Hlnu")).not.toContain(":4789");
    // And at once again: the VNI is free.
    await wire(network, [
      [one, a],
      [two, b],
    ]);
    expect(one.ping(a, "10.0.3.3")).toBe(true);
  });

  it("follows an endpoint that moves to another host, by one more `add`", async () => {
    const [one, two] = [hostOf(hosts, 1), hostOf(hosts, 2)];
    await wire(network, [
      [one, a],
      [two, b],
      [two, c],
    ]);
    expect(two.ping(c, "10.0.3.3")).toBe(true);
    await two.detach(network, b);
    await one.attach(network, b);
    await two.know(network, peerOf(b, one));
    // What was known of it as a peer here is in nobody's way, and goes.
    expect(one.ping(a, "10.0.3.3")).toBe(true);
    await one.forget(network, peerOf(b, two));
    expect(one.ping(a, "10.0.3.3")).toBe(true);
    expect(two.ping(c, "10.0.3.3")).toBe(true);
    expect(one.ping(b, "10.0.3.4")).toBe(true);
  });
});
