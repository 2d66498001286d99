import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Libnetwork } from "../../src/controller/libnetwork.ts";
import { bridgeDriver } from "../../src/drivers/bridge/bridge-driver.ts";
import { overlayDriver } from "../../src/drivers/overlay/overlay-driver.ts";
import { DefaultIpam } from "../../src/ipam/default/default-ipam.ts";
import { SparseAddressSet } from "../../src/ipam/default/sparse-address-set.ts";
import { addressOf } from "../../src/net/prefix.ts";
import { MemoryStore } from "../../src/store/memory/memory-store.ts";
import { FakeNaming } from "../fakes/fake-naming.ts";
import { eventually, run } from "../own-host.ts";
import { hostOf, type LanHost, useLan } from "./lan.ts";

/** The whole controller on real kernels: two hosts, one shared store; what `dnet trace` and `dnet explain` say. */

const hosts = useLan(2);
let nodes: Libnetwork[] = [];

const open = (host: LanHost, global: MemoryStore): Promise<Libnetwork> =>
  Libnetwork.open({
    stores: { local: new MemoryStore(), global },
    kernel: host.kernel,
    drivers: [bridgeDriver(), overlayDriver()],
    ipam: new DefaultIpam(),
    newAddressSet: () => new SparseAddressSet(),
    naming: () => new FakeNaming(),
    namespaceDir: host.host.namespaceDir,
    avoid: async () => [],
    defaultNetwork: "",
    place: { vtep: host.host.vtep },
    gateway: { name: "docker_gwbridge", driver: "bridge", options: {} },
    // What a test breaks stays broken.
    repairEvery: 0,
    presence: { repairEvery: 3_600_000 },
  });

beforeEach(async () => {
  const shared = new MemoryStore();
  nodes = [await open(hostOf(hosts, 1), shared), await open(hostOf(hosts, 2), shared)];
});
afterEach(async () => {
  for (const node of nodes) {
    for (const { id } of node.sandboxes()) await node.deleteSandbox(id);
    await node.close();
  }
});

const node = (n: number): Libnetwork => {
  const found = nodes[n - 1];
  if (!found) throw new Error(`no node ${n}`);
  return found;
};

/** A container with a service of its name, attached. */
const container = async (where: Libnetwork, name: string, network: string) => {
  await where.sync();
  const { id } = await where.createSandbox({ containerId: name });
  return { id, key: where.sandbox(id).key, ip: await join(where, id, name, network) };
};

const join = async (where: Libnetwork, sandbox: string, name: string, network: string): Promise<string> => {
  const found = where.networks().find((other) => other.name === network);
  const endpoint = await where.createEndpoint(found?.id ?? "", { name });
  await where.attach(endpoint.id, sandbox);
  const [first] = endpoint.addresses;
  if (first === undefined) throw new Error("no address");
  return addressOf(first);
};

const inside = (key: string, ...words: readonly [string, ...string[]]): string =>
  run("nsenter", `--net=${key}`, ...words);

const overlay = async () => {
  const network = await node(1).createNetwork({ name: "multihost", driver: "overlay" });
  const a = await container(node(1), "ca", "multihost");
  const b = await container(node(2), "cb", "multihost");
  // Node 1 hears of what node 2 did a moment later.
  await node(1).sync();
  const trace = (to: string = b.ip, ping = false) => node(1).trace(a.id, to, { ping });
  await eventually("node 1 knows the way to b", async () => !(await trace()).lost);
  // A link that was just plugged in may drop its first frame.
  await eventually("frames pass", async () => (await trace(b.ip, true)).ping?.received === 3);
  const space = `${hostOf(hosts, 1).host.namespaceDir}/1-${network.id.slice(0, 10)}`;
  return { network, a, b, trace, space };
};

describe("a trace across hosts", () => {
  it("names every step, and an echo proves it", async () => {
    const { b, trace, a, space } = await overlay();
    const found = await trace("cb", true);
    expect(found).toMatchObject({ destination: b.ip, ping: { sent: 3, received: 3 } });
    expect(found.lost).toBeUndefined();
    const text = found.hops.map(({ where, what }) => `${where}: ${what}`);
    const mac = `02:42:${b.ip
      .split(".")
      .map((part) => Number(part).toString(16).padStart(2, "0"))
      .join(":")}`;
    expect(text).toEqual([
      `container ca: route by eth0: it is on the link, sent from ${a.ip}`,
      expect.stringMatching(
        /^namespace 1-\w{10}: veth eth0 comes out as veth\w{11}, a port of bridge br0 \(network multihost, MTU 1450\)$/,
      ),
      expect.stringContaining(`${b.ip} is at ${mac}`),
      expect.stringContaining(`vxlan1 (VNI 256) sends frames for ${mac} to host 192.168.50.2`),
      "host: UDP to 192.168.50.2 port 4789 by eth0, from 192.168.50.1",
      `node ${node(2).node}: container cb has ${b.ip} (service cb): trace back from there for the answer's way`,
    ]);
    // Each command shows what the step says.
    for (const { command } of found.hops) if (command) expect(hostOf(hosts, 1).run("sh", "-ec", command)).not.toBe("");
    expect(inside(space, "ip", "-br", "link")).toContain("vxlan1");
  });

  it("says where the packet is lost", async () => {
    const { a, b, trace, space, network } = await overlay();
    const mac = inside(space, "ip", "neighbor", "show", b.ip).replace(/.*lladdr (\S+) .*\n/, "$1");
    const reason = async (to?: string) => (await trace(to)).lost?.reason;

    inside(space, "bridge", "fdb", "replace", mac, "dev", "vxlan1", "dst", "192.168.50.9", "self", "permanent");
    expect(await reason()).toBe("the entry leads to 192.168.50.9, but service cb is on 192.168.50.2");
    inside(space, "bridge", "fdb", "del", mac, "dev", "vxlan1", "self");
    expect(await reason()).toBe(`vxlan1 does not know on which host ${mac} is`);
    inside(space, "ip", "neighbor", "del", b.ip, "dev", "vxlan1");
    inside(a.key, "ip", "neighbor", "flush", "dev", "eth0");
    expect(await reason()).toContain(
      `vxlan1 knows no neighbour ${b.ip}, so nobody answers for it: service cb has it, on node`,
    );
    inside(space, "ip", "link", "set", "vxlan1", "down");
    inside(space, "ip", "neighbor", "add", b.ip, "lladdr", mac, "dev", "vxlan1");
    expect(await reason()).toBe(`link vxlan1 of namespace 1-${network.id.slice(0, 10)} is down`);
    const port = inside(space, "ip", "-br", "link", "show", "type", "veth").replace(/@.*\n/, "");
    inside(space, "ip", "link", "set", port, "nomaster");
    expect(await reason()).toBe(`link ${port} is no port of bridge br0`);
    inside(space, "ip", "link", "set", port, "down");
    expect(await reason()).toBe(`link ${port} of namespace 1-${network.id.slice(0, 10)} is down`);
    inside(space, "ip", "link", "delete", port);
    expect(await reason()).toBe("link eth0 of container ca is gone");
  });

  it("of an address that nobody has, or nobody uses", async () => {
    const { trace } = await overlay();
    const idle = await node(1).createEndpoint(node(1).networks()[0]?.id ?? "", { name: "idle" });
    const at = addressOf(idle.addresses[0] ?? ("" as never));
    expect((await trace(at)).lost).toMatchObject({
      reason: `service idle has the address ${at} and is attached to no container`,
      hint: "dnet service attach CONTAINER idle.multihost",
    });
    const nobody = at.replace(/\d+$/, "250");
    expect((await trace(nobody)).lost?.reason).toContain(
      `knows no neighbour ${nobody}, so nobody answers for it: no service of network multihost has it`,
    );
    await expect(trace("nosuch")).rejects.toMatchObject({ code: "unknown-destination", kind: "bad-request" });
    await expect(node(1).trace("f".repeat(64), "10.0.0.1")).rejects.toMatchObject({ code: "no-sandbox" });
  });

  it("takes the way out", async () => {
    const { trace } = await overlay();
    expect((await trace("198.51.100.7")).lost?.reason).toBe("host has no route to 198.51.100.7");
    hostOf(hosts, 1).run("ip", "route", "add", "198.51.100.0/24", "via", "192.168.50.2");
    const found = await trace("198.51.100.7");
    expect(found.lost).toBeUndefined();
    expect(found.hops.at(-1)).toMatchObject({
      where: "host",
      what: "leaves by eth0, with the host's address as its sender: what comes after is out of sight",
    });
  });
});

describe("a trace on one host", () => {
  it("goes from port to port, also before the bridge has learned anything", async () => {
    await node(1).createNetwork({ name: "web", driver: "bridge" });
    const a = await container(node(1), "ca", "web");
    const b = await container(node(1), "cb", "web");
    const first = await node(1).trace(a.id, "cb.web", { ping: true });
    expect(first).toMatchObject({ destination: b.ip, ping: { received: 3 } });
    expect(first.lost).toBeUndefined();
    const again = await node(1).trace(a.id, b.ip);
    expect(again.hops.map(({ what }) => what).join("\n")).toMatch(
      /knows 02:42:\S+ behind veth\w{11}\neth0 has \S+: the packet has arrived$/,
    );
    inside(b.key, "ip", "address", "flush", "dev", "eth0");
    expect((await node(1).trace(a.id, b.ip)).lost?.reason).toBe(`eth0 of container cb has not the address ${b.ip}`);
    expect((await node(1).trace(a.id, a.ip)).hops.at(-1)?.what).toBe(`${a.ip} is the container's own address`);
  });

  it("says what the packet filter keeps apart", async () => {
    await node(1).createNetwork({ name: "web", driver: "bridge" });
    await node(1).createNetwork({ name: "db", driver: "bridge" });
    const a = await container(node(1), "ca", "web");
    const b = await container(node(1), "cb", "db");
    expect((await node(1).trace(a.id, b.ip)).lost?.reason).toBe(
      "network web and network db are kept apart by the packet filter",
    );
    expect((await node(1).trace(a.id, b.ip, { ping: true })).ping?.received).toBe(0);
  });
});

describe("an explanation", () => {
  it("of an overlay network is what this host has of it", async () => {
    const { network, a } = await overlay();
    const { operations, omitted } = node(1).explain("network", network.id);
    expect(omitted).toBe(0);
    const headings = operations.map(({ what }) => what);
    expect(headings).toEqual(
      expect.arrayContaining([
        `bridge br0 in namespace 1-${network.id.slice(0, 10)}`,
        `VXLAN device vxlan1 with VNI 256 (port of bridge br0) in namespace 1-${network.id.slice(0, 10)}`,
      ]),
    );
    expect(
      operations.some(({ command }) => /^ip link add name vxlan1 netns \S+ .*type vxlan id 256/.test(command)),
    ).toBe(true);
    expect(headings.some((text) => /go to host 192\.168\.50\.2/.test(text))).toBe(true);
    const sandbox = node(1).explain("sandbox", a.id);
    expect(sandbox.operations[0]).toMatchObject({ operation: "namespace.add", what: `namespace ${a.key}` });
    const remote = node(1)
      .endpoints()
      .find(({ name }) => name === "cb");
    expect(node(1).explain("endpoint", remote?.id ?? "")).toMatchObject({
      note: `service cb is attached on node ${node(2).node}: this host knows the way there`,
      operations: [{ operation: "fdb.add" }, { operation: "neighbor.add" }],
    });
  });

  it("of what is not here says so", async () => {
    const network = await node(1).createNetwork({ name: "multihost", driver: "overlay" });
    expect(node(1).explain("network", network.id)).toEqual({
      operations: [],
      omitted: 0,
      note: "nothing: no endpoint of network multihost is attached on this host",
    });
    const idle = await node(1).createEndpoint(network.id, { name: "idle" });
    expect(node(1).explain("endpoint", idle.id).note).toBe("nothing: service idle is attached to no container");
    expect(() => node(1).explain("network", "f".repeat(64))).toThrow("Resource not found: Network");
  });
});
