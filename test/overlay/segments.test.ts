import { describe, expect, it } from "vitest";
import { parseIp } from "../../src/net/ip.ts";
import { endpointOf, hostOf, overlayNetwork, useLan, wire } from "./lan.ts";

const hosts = useLan(3);

describe("a network with several subnets", () => {
  const network = overlayNetwork("wide", 300, ["10.1.0.0/24", "10.2.0.0/24"]);
  const a = endpointOf("a", "10.1.0.2/24");
  const b = endpointOf("b", "10.2.0.3/24");
  const c = endpointOf("c", "10.2.0.4/24");

  it("has a segment for each and routes between them, on three hosts", async () => {
    await wire(network, [
      [hostOf(hosts, 1), a],
      [hostOf(hosts, 2), b],
      [hostOf(hosts, 3), c],
    ]);
    const one = hostOf(hosts, 1);
    expect(one.inside(network, "ip", "-d", "link", "show", "vxlan1")).toMatch(/master br0[\s\S]*vxlan id 300 /);
    expect(one.inside(network, "ip", "-d", "link", "show", "vxlan2")).toMatch(/master br1[\s\S]*vxlan id 301 /);
    expect(one.ping(a, "10.2.0.3")).toBe(true);
    expect(one.ping(a, "10.2.0.4")).toBe(true);
    expect(hostOf(hosts, 2).ping(b, "10.2.0.4")).toBe(true);
    expect(hostOf(hosts, 3).ping(c, "10.1.0.2")).toBe(true);
  });
});

describe("a network with both families", () => {
  const network = overlayNetwork("dual", 310, ["10.1.0.0/24", "10.2.0.0/24", "fd09::/64"]);
  const a = endpointOf("a", "10.1.0.2/24", "fd09::2/64");
  const b = endpointOf("b", "10.2.0.3/24", "fd09::3/64");

  it("is one segment, whose subnets reach each other on the wire", async () => {
    const [one, two] = [hostOf(hosts, 1), hostOf(hosts, 2)];
    await wire(network, [
      [one, a],
      [two, b],
    ]);
    expect(one.inside(network, "ip", "-br", "link", "show", "type", "vxlan").trim().split("\n")).toHaveLength(1);
    expect(one.ping(a, "10.2.0.3")).toBe(true);
    expect(two.ping(b, "10.1.0.2")).toBe(true);
    expect(one.ping(a, "fd09::3")).toBe(true);
  });
});

describe("an IPv6 underlay", () => {
  const network = overlayNetwork("six", 320, ["10.1.0.0/24", "fd09::/64"]);
  const a = endpointOf("a", "10.1.0.2/24", "fd09::2/64");
  const b = endpointOf("b", "10.1.0.3/24", "fd09::3/64");

  it("carries the same", async () => {
    const [one, two] = [hostOf(hosts, 1), hostOf(hosts, 2)];
    for (const [n, host] of [one, two].entries()) host.host = { ...host.host, vtep: parseIp(`fd50::${n + 1}`) };
    await wire(network, [
      [one, a],
      [two, b],
    ]);
    expect(one.inside(network, "ip", "-d", "link", "show", "vxlan1")).toMatch(/mtu 1430 [\s\S]*local fd50::1/);
    expect(one.ping(a, "10.1.0.3", "-M", "do", "-s", String(1430 - 28))).toBe(true);
    expect(two.ping(b, "fd09::2")).toBe(true);
    await one.restart();
    await one.arrive(network, [two]);
    expect(one.ping(a, "10.1.0.3")).toBe(true);
  });
});

describe("host mode", () => {
  const network = overlayNetwork("bare", 330, ["10.1.0.0/24"]);
  const a = endpointOf("a", "10.1.0.2/24");
  const b = endpointOf("b", "10.1.0.3/24");

  it("has its bridge and device on the host, and the host routes nothing into it", async () => {
    const [one, two, three] = [hostOf(hosts, 1), hostOf(hosts, 2), hostOf(hosts, 3)];
    one.host = { ...one.host, overlayHostMode: true };
    const before = one.run("ip", "-br", "link");
    await wire(network, [
      [one, a],
      [two, b],
    ]);
    const name = `${(330).toString(16).padStart(6, "0")}-${network.id.slice(0, 5)}`;
    expect(one.run("ip", "-br", "link")).toMatch(new RegExp(`ov-${name}.*\nvx-${name}`));
    expect(one.ping(a, "10.1.0.3")).toBe(true);
    // A neighbour on the LAN that sends packets for the overlay's addresses to the host.
    one.run("sysctl", "-qw", "net.ipv4.ip_forward=1");
    three.run("ip", "route", "add", "10.1.0.0/24", "via", "192.168.50.1");
    one.in(a, "ip", "route", "add", "default", "via", "10.1.0.1");
    const reaches = (): boolean => {
      try {
        three.run("ping", "-c", "1", "-w", "2", "10.1.0.2");
        return true;
      } catch {
        return false;
      }
    };
    expect(reaches()).toBe(false);
    // The host would route it: it is the table that does not let it.
    one.run("nft", "delete", "table", "inet", `dnet_overlay_${network.id.slice(0, 10)}`);
    expect(reaches()).toBe(true);
    await one.detach(network, a);
    await one.leave(network);
    expect(one.run("ip", "-br", "link")).toBe(before);
  });
});
