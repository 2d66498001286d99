import { describe, expect, it } from "vitest";
import { parseIp } from "../net/ip.ts";
import { parseMac } from "../net/mac.ts";
import { parseInterfaceAddress, parsePrefix } from "../net/prefix.ts";
import { narrate } from "./narrate.ts";
import type { Operation } from "./plan.ts";

const mac = parseMac("02:42:0a:00:00:02");
const namespace = "/run/docker/netns/1-ae0e5b2b78";

describe("an operation in a few words", () => {
  it.each([
    [{ op: "namespace.add", path: namespace }, `namespace ${namespace}`],
    [{ op: "link.add", namespace, link: { kind: "bridge", name: "br0" } }, "bridge br0 in namespace 1-ae0e5b2b78"],
    [
      { op: "link.add", namespace: "host", link: { kind: "macvlan", name: "m0", parent: "eth0", mode: "bridge" } },
      "macvlan m0 on eth0 on the host",
    ],
    [{ op: "link.set", namespace: "host", name: "br0", set: { up: true } }, "br0 is up on the host"],
    [{ op: "link.set", namespace: "host", name: "br0", set: { mtu: 1400 } }, "settings of br0 on the host"],
    [
      { op: "address.add", namespace: "host", device: "br0", address: parseInterfaceAddress("10.0.0.1/24") },
      "address 10.0.0.1/24 of br0 on the host",
    ],
    [{ op: "route.add", namespace: "host", route: { to: parsePrefix("0.0.0.0/0") } }, "default route on the host"],
    [
      { op: "neighbor.add", namespace: "host", device: "vxlan1", ip: parseIp("10.0.0.2"), mac },
      "neighbour 10.0.0.2 at 02:42:0a:00:00:02 on the host",
    ],
    [{ op: "fdb.add", namespace: "host", device: "v0", mac }, "02:42:0a:00:00:02 is behind v0 on the host"],
    [
      { op: "fdb.add", namespace, device: "vxlan1", mac, destination: parseIp("192.0.2.1") },
      "frames for 02:42:0a:00:00:02 go to host 192.0.2.1 in namespace 1-ae0e5b2b78",
    ],
  ] as readonly (readonly [Operation, string])[])("%j", (operation, text) => expect(narrate(operation)).toBe(text));
});
