import { describe, expect, it } from "vitest";
import { parseIp } from "../net/ip.ts";
import { parseMac } from "../net/mac.ts";
import { parseInterfaceAddress, parsePrefix } from "../net/prefix.ts";
import { describe as commandOf } from "./describe.ts";
import { inverse, inversePlan, type Operation, plan } from "./plan.ts";

const namespace = "/run/netns/a b";
const mac = parseMac("02:42:0a:00:00:02");
const link = { kind: "dummy", name: "d0", alias: "dnet:x:1" } as const;
const rule = { priority: 100, table: 300, from: parsePrefix("10.0.0.0/24"), to: parsePrefix("10.9.0.0/16") };
const route = {
  to: parsePrefix("fd00::/64"),
  via: parseIp("fd00::1"),
  device: "d0",
  metric: 5,
  source: parseIp("fd00::2"),
};

/** One of every kind, with its command. */
const all: readonly (readonly [Operation, string])[] = [
  [
    { op: "namespace.add", path: namespace },
    "touch '/run/netns/a b'\nunshare --net='/run/netns/a b' ip link set lo up",
  ],
  [
    { op: "namespace.add", path: "/run/netns/default", of: "host" },
    "touch /run/netns/default\nmount --bind /proc/1/ns/net /run/netns/default",
  ],
  [{ op: "link.add", namespace: "host", link }, "ip link add name d0 type dummy\nip link set dev d0 alias dnet:x:1"],
  [{ op: "link.delete", namespace, name: "d0", link }, "nsenter --net='/run/netns/a b' ip link delete dev d0"],
  [
    { op: "link.set", namespace: "host", name: "d0", set: { up: false, mtu: 1400, master: "" }, was: { up: true } },
    "ip link set dev d0 down mtu 1400 nomaster",
  ],
  [
    { op: "link.set", namespace: "host", name: "v0", set: { up: true, hairpin: true }, was: { hairpin: false } },
    "ip link set dev v0 up\nbridge link set dev v0 hairpin on",
  ],
  [
    { op: "address.add", namespace: "host", device: "d0", address: parseInterfaceAddress("10.0.0.1/24") },
    "ip address add 10.0.0.1/24 broadcast + dev d0",
  ],
  [
    { op: "address.delete", namespace: "host", device: "d0", address: parseInterfaceAddress("fd00::1/64") },
    "ip -6 address delete fd00::1/64 dev d0",
  ],
  [
    { op: "route.add", namespace: "host", route },
    "ip -6 route add fd00::/64 via fd00::1 dev d0 metric 5 src fd00::2 proto 215",
  ],
  [
    { op: "route.delete", namespace: "host", route: { to: parsePrefix("0.0.0.0/0") } },
    "ip route delete default proto 215",
  ],
  [
    { op: "rule.add", namespace: "host", rule },
    "ip rule add priority 100 from 10.0.0.0/24 to 10.9.0.0/16 table 300 protocol 215",
  ],
  [
    { op: "rule.delete", namespace: "host", rule },
    "ip rule delete priority 100 from 10.0.0.0/24 to 10.9.0.0/16 table 300 protocol 215",
  ],
  [
    { op: "neighbor.add", namespace: "host", device: "d0", ip: parseIp("10.0.0.2"), mac },
    "ip neighbor replace 10.0.0.2 lladdr 02:42:0a:00:00:02 nud permanent dev d0",
  ],
  [
    { op: "neighbor.delete", namespace: "host", device: "d0", ip: parseIp("10.0.0.2"), mac },
    "ip neighbor delete 10.0.0.2 dev d0",
  ],
  [
    { op: "fdb.add", namespace: "host", device: "vxlan1", mac, destination: parseIp("172.17.0.3") },
    "bridge fdb replace 02:42:0a:00:00:02 dev vxlan1 dst 172.17.0.3 self permanent",
  ],
  [
    { op: "fdb.delete", namespace: "host", device: "vxlan1", mac, destination: parseIp("172.17.0.3") },
    "bridge fdb delete 02:42:0a:00:00:02 dev vxlan1 dst 172.17.0.3 self permanent",
  ],
  [
    { op: "fdb.add", namespace: "host", device: "veth0", mac },
    "bridge fdb replace 02:42:0a:00:00:02 dev veth0 master static",
  ],
  [
    { op: "sysctl.set", namespace: "host", key: "net/ipv4/ip_forward", value: "1", was: "0" },
    "sysctl -w net/ipv4/ip_forward=1",
  ],
  [
    { op: "nft.apply", namespace: "host", script: "add table ip t\n", undo: "delete table ip t\n" },
    "nft -f - <<'EOF'\nadd table ip t\nEOF",
  ],
  [
    {
      op: "conntrack.flush",
      namespace: "host",
      flows: [
        { protocol: "udp", family: 4, port: 53, count: 1 },
        {
          protocol: "tcp",
          family: 6,
          address: parseIp("2001:db8::1"),
          port: 8000,
          count: 3,
          unless: { address: parseIp("fd00::2"), port: 80 },
        },
      ],
    },
    "conntrack -D -f ipv4 -p udp --orig-port-dst 53\n" +
      'for port in $(seq 8000 8002); do conntrack -D -f ipv6 -p tcp --orig-dst 2001:db8::1 --orig-port-dst "$port"; done',
  ],
];

describe("operations", () => {
  it.each(all)("%j is a command", (operation, command) => expect(commandOf(operation)).toBe(command));

  const undoable = all.map(([operation]) => operation).filter(({ op }) => op !== "conntrack.flush");
  it.each(undoable)("%j is what its inverse's inverse does", (operation) => {
    const back = inverse(operation);
    if (back === undefined) throw new Error("no inverse");
    // What a deletion knows of a link lets it be made again; a namespace comes back empty and new.
    if (operation.op === "namespace.add") expect(back).toEqual({ op: "namespace.delete", path: operation.path });
    else if (operation.op === "link.delete") expect(inverse(back)).toMatchObject(operation);
    else expect(inverse(back)).toEqual(operation);
  });

  it.each([
    { op: "namespace.delete", path: namespace },
    { op: "link.delete", namespace, name: "d0" },
    { op: "sysctl.set", namespace, key: "net/ipv4/ip_forward", value: "1" },
    { op: "nft.apply", namespace, script: "x" },
    { op: "conntrack.flush", namespace, flows: [] },
  ] as Operation[])("%j has none: it does not know what was before", (operation) => {
    expect(inverse(operation)).toBeUndefined();
  });

  it("are frozen in a plan, whose inverse runs backwards", () => {
    const operations = plan(...all.map(([operation]) => operation));
    expect(Object.isFrozen(operations) && operations.every(Object.isFrozen)).toBe(true);
    expect(inversePlan(operations)[0]).toMatchObject({ op: "nft.apply", script: "delete table ip t\n" });
    expect(inversePlan(operations)).toHaveLength(undoable.length);
  });

  it("of a redirect are batches for nft, as its command is", () => {
    const redirect = { table: "t", address: parseIp("127.0.0.11"), port: 53, udp: 7, tcp: 8 };
    const operation = { op: "nft.redirect", namespace: "host", redirect } as const;
    expect(commandOf(operation)).toBe(
      [
        "nft -f - <<'EOF'",
        "table ip t {",
        "  chain output { type nat hook output priority -100; policy accept; }",
        "}",
        "flush chain ip t output",
        "add rule ip t output ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:7",
        "add rule ip t output ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:8",
        "EOF",
      ].join("\n"),
    );
    const back = inverse(operation)!;
    expect(commandOf(back)).toBe("nft -f - <<'EOF'\ndelete table ip t\nEOF");
    expect(commandOf(inverse(back)!)).toBe(commandOf(operation));
  });
});
