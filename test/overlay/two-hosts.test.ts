import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { enterOwnHost, expectNothingLeft } from "../own-host.ts";
import { endpointOf, LanHost, makeLan, overlayNetwork, peerOf, removeLan } from "./lan.ts";

let one: LanHost;
let two: LanHost;
const network = overlayNetwork("multihost", 256, ["10.0.3.0/24", "fd03::/64"]);
const a = endpointOf("a", "10.0.3.2/24", "fd03::2/64");
const b = endpointOf("b", "10.0.3.3/24", "fd03::3/64");

beforeAll(enterOwnHost);
beforeEach(() => {
  makeLan();
  one = new LanHost(1);
  two = new LanHost(2);
});
afterEach(async () => {
  await one.close();
  await two.close();
  removeLan();
  expectNothingLeft();
});
afterAll(() => undefined);

const wire = async (): Promise<void> => {
  await one.arrive(network, [two]);
  await two.arrive(network, [one]);
  await one.attach(network, a);
  await two.attach(network, b);
  await one.know(network, peerOf(b, two));
  await two.know(network, peerOf(a, one));
};

describe("an overlay network on two hosts", () => {
  it("carries IPv4 and IPv6 both ways, in the objects of the walk-through", async () => {
    await wire();
    expect(one.ping(a, "10.0.3.3")).toBe(true);
    expect(two.ping(b, "10.0.3.2")).toBe(true);
    expect(one.ping(a, "fd03::3")).toBe(true);
    expect(two.ping(b, "fd03::2")).toBe(true);
    const link = one.inside(network, "ip", "-d", "link", "show", "dev", "vxlan1");
    expect(link).toMatch(/vxlan id 256 local 192\.168\.50\.1 srcport 0 0 dstport 4789 nolearning proxy l2miss l3miss/);
    expect(link).toMatch(/mtu 1450 .* master br0/);
    expect(one.inside(network, "bridge", "fdb", "show", "dev", "vxlan1")).toMatch(
      /02:42:0a:00:03:03 dst 192\.168\.50\.2 (link-netnsid 0 )?self permanent/,
    );
    const neighbors = one.inside(network, "ip", "neighbor");
    expect(neighbors).toMatch(/10\.0\.3\.3 dev vxlan1 lladdr 02:42:0a:00:03:03 PERMANENT/);
    expect(one.inside(network, "ip", "-6", "neighbor")).toMatch(
      /fd03::3 dev vxlan1 lladdr 02:42:0a:00:03:03 PERMANENT/,
    );
    expect(one.in(a, "ip", "link", "show", "eth0")).toContain("mtu 1450");
  });
});
