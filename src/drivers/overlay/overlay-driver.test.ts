import { describe, expect, it } from "vitest";
import { describe as commandOf } from "../../linux/describe.ts";
import type { Plan } from "../../linux/plan.ts";
import { parseIp } from "../../net/ip.ts";
import { parseMac } from "../../net/mac.ts";
import { parseInterfaceAddress, parsePrefix } from "../../net/prefix.ts";
import type { DriverEndpoint, DriverHost, DriverNetwork, DriverPeer } from "../driver.ts";
import { option } from "../options.ts";
import { overlayDriver } from "./overlay-driver.ts";

const driver = overlayDriver();
const present = <T>(part: T | undefined): T => {
  if (part === undefined) throw new Error("a part of the contract is missing");
  return part;
};
const presence = present(driver.presence);
const peers = present(driver.peers);
const segments = present(driver.segments);

const id = "ae0e5b2b78".padEnd(64, "c");
const four = { pool: parsePrefix("10.0.3.0/24"), gateway: parseInterfaceAddress("10.0.3.1/24"), vni: 256 };
const more = { pool: parsePrefix("10.0.4.0/24"), gateway: parseInterfaceAddress("10.0.4.1/24"), vni: 257 };
const six = { pool: parsePrefix("fd00:3::/64"), gateway: parseInterfaceAddress("fd00:3::1/64"), vni: 258 };
const network = (change: Partial<DriverNetwork> = {}): DriverNetwork => ({
  id,
  name: "multihost",
  mark: `dnet:0badcafe:${id}`,
  internal: false,
  ipv6: false,
  options: {},
  subnets: [four],
  ...change,
});
const host: DriverHost = { vtep: parseIp("172.17.0.3"), namespaceDir: "/var/run/docker/netns" };
const own = "fedcba987654".padEnd(64, "3");
const endpoint = (...addresses: readonly string[]): DriverEndpoint => ({
  id: own,
  name: "container_0",
  mark: `dnet:0badcafe:${own}`,
  addresses: addresses.map((address) => parseInterfaceAddress(address)),
  mac: parseMac("02:42:0a:00:03:02"),
  options: {},
});
const peer = (...addresses: readonly string[]): DriverPeer => ({
  addresses: addresses.map((address) => parseInterfaceAddress(address)),
  mac: parseMac("02:42:0a:00:03:03"),
  vtep: parseIp("172.17.0.4"),
});
const sandbox = { id: "5".repeat(64), namespace: "/var/run/docker/netns/555555555555", interfaceName: "eth0" };
const dual = network({ ipv6: true, subnets: [four, more, six] });
const two = network({ subnets: [four, more] });
const multicast = network({ options: { [option.multicast]: "true" } });
const hosts = [parseIp("172.17.0.4"), parseIp("fd00::5"), host.vtep];

const text = (plan: Plan): string => `${plan.map(commandOf).join("\n")}\n`;

/** The plans as the commands that they are equivalent to; `vitest -u` writes them anew: read the difference. */
describe("plans", () => {
  it.each([
    ["presence", presence.create(network(), host)],
    ["presence-remove", presence.remove(network(), host)],
    ["presence-dual-stack", presence.create(dual, host)],
    ["presence-two-subnets", presence.create(two, host)],
    ["presence-host-mode", presence.create(network(), { ...host, overlayHostMode: true })],
    ["presence-host-mode-remove", presence.remove(network(), { ...host, overlayHostMode: true })],
    ["attach", driver.attach(network(), endpoint("10.0.3.2/24"), sandbox, host).attach],
    ["attach-dual-stack", driver.attach(dual, endpoint("10.0.3.2/24", "fd00:3::2/64"), sandbox, host).attach],
    ["attach-two-subnets", driver.attach(two, endpoint("10.0.4.2/24"), sandbox, host).attach],
    ["detach", driver.attach(network(), endpoint("10.0.3.2/24"), sandbox, host).detach],
    ["peer", peers.add(dual, host, peer("10.0.3.3/24", "fd00:3::3/64"))],
    ["peer-second-subnet", peers.add(two, host, peer("10.0.4.3/24"))],
    ["peer-remove", peers.remove(dual, host, peer("10.0.3.3/24", "fd00:3::3/64"))],
    ["hosts", peers.hosts(network(), host, hosts, [])],
    ["hosts-multicast", peers.hosts(multicast, host, hosts, [parseIp("172.17.0.9"), parseIp("172.17.0.4")])],
  ] as const)("%s", async (name, plan) => {
    expect(Object.isFrozen(plan) && plan.every(Object.isFrozen)).toBe(true);
    await expect(text(plan)).toMatchFileSnapshot(`../../../test/golden/plans/overlay-${name}.txt`);
  });

  it("need nothing of nftables where the host has none", () => {
    const bare = { ...host, firewall: false };
    const all = [
      ...presence.create(network(), bare),
      ...presence.remove(network(), bare),
      ...peers.hosts(network(), bare, hosts, []),
    ];
    expect(all.filter(({ op }) => op === "nft.apply")).toEqual([]);
    expect(all.length).toBeGreaterThan(5);
  });
});

describe("MTU", () => {
  const mtuOf = (net: DriverNetwork, on: DriverHost): number | undefined =>
    presence.create(net, on).flatMap((each) => (each.op === "link.add" ? [each.link.mtu] : []))[0];
  it.each([
    ["1500 where nobody says", {}, {}, 1450],
    ["a jumbo underlay", {}, { underlayMtu: 9000 }, 8950],
    ["an IPv6 underlay", {}, { vtep: parseIp("fd00::3") }, 1430],
    ["the option", { [option.mtu]: "1300" }, { underlayMtu: 9000 }, 1300],
  ] as const)("%s", (_name, options, change, mtu) =>
    expect(mtuOf(network({ options }), { ...host, ...change })).toBe(mtu),
  );
});

describe("peers", () => {
  it("on this host are none", () => {
    expect(peers.add(network(), host, { ...peer("10.0.3.3/24"), vtep: host.vtep })).toEqual([]);
  });
  it("with addresses of no subnet get no entry for them", () => {
    expect(peers.add(network(), host, peer("10.9.0.3/24"))).toEqual([]);
    expect(peers.add(network(), host, peer("10.9.0.3/24", "10.0.3.3/24")).map(({ op }) => op)).toEqual([
      "fdb.add",
      "neighbor.add",
    ]);
  });
});

describe("options", () => {
  it.each([
    [{ [option.vxlanIds]: "x" }, 'invalid vxlan id value "x" passed'],
    [{ [option.vxlanIds]: "0" }, 'invalid vxlan id value "0" passed'],
    [{ [option.vxlanIds]: "16777216" }, 'invalid vxlan id value "16777216" passed'],
    [{ [option.vxlanIds]: "1e3" }, 'invalid vxlan id value "1e3" passed'],
    [{ [option.vxlanIds]: "" }, 'invalid vxlan id value "" passed'],
    [{ [option.vxlanIds]: "1024,1025" }, "2 ids for 1 subnets"],
    [{ [option.vxlanIds]: "1024,1024" }, "names an id twice"],
    [{ [option.mtu]: "67" }, "not between 68 and 65535"],
    [{ [option.multicast]: "yes" }, "not true or false"],
    [{ nosuch: "1" }, 'unknown option "nosuch" for driver overlay'],
  ])("%j is refused by name", (options, reason) => {
    expect(() => driver.checkNetwork(network({ options: options as Record<string, string> }))).toThrow(reason);
  });
  it.each(["", "true", "false", "0"])(
    "18, moby 30727, moby 30766, moby 26523, moby 45635: encryption asked for as %j is refused, never left out in silence",
    (value) => {
      expect(() => driver.checkNetwork(network({ options: { [option.encrypted]: value } }))).toThrow(
        expect.objectContaining({
          status: 501,
          message: "encrypted overlay networks are not supported",
          hint: expect.stringContaining("VPN"),
        }),
      );
    },
  );
  it("CVE-2023-28841: a network that should be encrypted is refused, so that nothing of it goes in clear", () => {
    for (const value of ["", "true", "false"])
      expect(() => driver.checkNetwork(network({ options: { [option.encrypted]: value } }))).toThrow("not supported");
  });
  it("name the VNIs", () => {
    expect(segments).toMatchObject({ first: 256, last: 16777215 });
    expect(segments.fixed({})).toBeUndefined();
    expect(segments.fixed({ [option.vxlanIds]: "1,16777215" })).toEqual([1, 16777215]);
  });
});

describe("what the controller must give", () => {
  it("a VNI a subnet, an address of the network, and the host", () => {
    const bare = network({ subnets: [{ pool: four.pool, gateway: four.gateway }] });
    expect(() => presence.create(bare, host)).toThrow("network multihost has no VNI");
    expect(() => driver.attach(network(), endpoint("10.9.0.2/24"), sandbox, host)).toThrow("no address of network");
    expect(() => driver.attach(network(), endpoint("10.0.3.2/24"), sandbox)).toThrow("which host it is on");
  });
});

describe("remains of a network whose record is gone", () => {
  const namespace = "/var/run/docker/netns/1-ae0e5b2b78";
  const remains = (at: string, ...links: readonly { readonly name: string; readonly kind: string }[]) =>
    present(presence.removeRemains)({ id, mark: `dnet:0badcafe:${id}`, namespace: at, links }, host);
  const bridge = { name: "br0", kind: "bridge" };

  it("go with their namespace, VXLAN devices first", () => {
    const plan = remains(namespace, bridge, { name: "vxlan1", kind: "vxlan" });
    expect(plan.map(({ op }) => op)).toEqual(["link.delete", "namespace.delete", "nft.apply"]);
    expect(plan[0]).toMatchObject({ name: "vxlan1", namespace });
  });

  it("are a bridge alone where a removal was cut short", () => {
    expect(remains(namespace, bridge)).toEqual(remains(namespace, bridge, { name: "vxlan1", kind: "vxlan" }).slice(1));
  });

  it("are not what is elsewhere", () => {
    expect(remains("/var/run/docker/netns/555555555555", bridge)).toEqual([]);
  });
});
