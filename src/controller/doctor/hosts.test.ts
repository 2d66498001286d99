import { afterEach, describe, expect, it } from "vitest";
import { FakePortSockets } from "../../../test/fakes/fake-port-sockets.ts";
import { type Opened, openController } from "../../../test/fakes/open-controller.ts";
import { segmentDriver } from "../../../test/fakes/segment-driver.ts";
import type { ClusterNode } from "../../cluster/merge-nodes.ts";
import { bridgeDriver } from "../../drivers/bridge/bridge-driver.ts";
import type { NetworkDriver } from "../../drivers/driver.ts";
import { featuresOn } from "../../linux/host-probe.ts";
import { hostNamespace, plan } from "../../linux/plan.ts";
import { parseIp } from "../../net/ip.ts";
import { parseMac } from "../../net/mac.ts";
import { parseInterfaceAddress } from "../../net/prefix.ts";
import { parseRequest } from "../../ports/port-text.ts";
import { MemoryStore } from "../../store/memory/memory-store.ts";
import type { Json } from "../../store/store.ts";

/** Checks of what is between hosts, on a host that has a part in a network that spans them. */

const other = "0a0a0b02";
const device = "multi";
let opened: Opened;
afterEach(() => opened.libnetwork.close());

const node = (id: string, more: Partial<ClusterNode> = {}): ClusterNode => ({
  ...{ id, name: `n-${id.slice(0, 2)}`, address: parseIp("10.0.0.2"), version: "1", state: "alive", self: false },
  ...more,
});

/** A network with a container here and services on another node. */
const spanning = async (...services: readonly string[]) => {
  const driver = segmentDriver();
  const peers = driver.peers && { ...driver.peers, place: () => ({ namespace: hostNamespace, devices: [device] }) };
  const stores = { local: new MemoryStore(), global: new MemoryStore() };
  const drivers: readonly NetworkDriver[] = [bridgeDriver(), { ...driver, ...(peers && { peers }) }];
  opened = await openController({ stores, drivers, place: { vtep: parseIp("10.0.0.1") } });
  const { libnetwork } = opened;
  const network = await libnetwork.createNetwork({ name: device, driver: "segment" });
  const here = await libnetwork.createEndpoint(network.id, { name: "here" });
  const sandbox = await libnetwork.createSandbox({ containerId: "c1" });
  await libnetwork.attach(here.id, sandbox.id);
  for (const name of services) {
    const endpoint = await libnetwork.createEndpoint(network.id, { name });
    const key = `global/endpoints/${network.id}/${endpoint.id}`;
    const record = (await stores.global.get(key))?.value as Record<string, Json>;
    const claim = { id: "c".repeat(64), node: other, vtep: "10.0.0.2", container: name, interface: "eth0", order: 0 };
    await stores.global.transact({ puts: [{ key, value: { ...record, sandbox: { ...claim, aliases: [] } } }] });
  }
  await libnetwork.sync();
  await opened.kernel.apply(
    plan(
      { op: "link.add", namespace: hostNamespace, link: { kind: "dummy", name: "under0" } },
      ...([
        {
          op: "address.add",
          namespace: hostNamespace,
          device: "under0",
          address: parseInterfaceAddress("10.0.0.1/24"),
        },
      ] as const),
    ),
  );
};

const diagnose = async (...nodes: readonly ClusterNode[]) => {
  const self = node(opened.libnetwork.node, { self: true });
  const { findings, unchecked } = await opened.libnetwork.diagnose([self, ...nodes]);
  expect(unchecked).toEqual([]);
  return findings;
};

describe("entries of peers", () => {
  it("13: that no service explains are named, and removed by the repair", async () => {
    await spanning("far");
    const found = opened.kernel.neighborEntries.get(hostNamespace) ?? [];
    expect(found.length).toBeGreaterThan(0);
    expect(await diagnose(node(other))).toEqual([]);
    const [stale, moved] = [parseMac("02:42:0a:00:00:63"), found[0]?.mac];
    const entry = { device, idle: 0 };
    opened.kernel.neighborEntries.set(hostNamespace, [
      ...found,
      { ...entry, mac: stale, ip: parseIp("10.0.0.99") },
      { ...entry, mac: stale, destination: parseIp("10.0.0.9") },
      { ...entry, mac: moved ?? stale, destination: parseIp("10.0.0.8") },
    ]);
    const findings = await diagnose(node(other));
    expect(findings.map(({ code, what }) => [code, what])).toEqual([
      ["surplus-peer", "an entry that 10.0.0.99 is at 02:42:0a:00:00:63 on multi"],
      ["surplus-peer", "an entry that 02:42:0a:00:00:63 is on host 10.0.0.9 on multi"],
      ["surplus-peer", expect.stringContaining("is on host 10.0.0.8 on multi")],
    ]);
    expect(findings[0]).toMatchObject({ repairable: true, remedy: expect.stringContaining("ip neigh") });
    const self = node(opened.libnetwork.node, { self: true });
    expect((await opened.libnetwork.repair([self, node(other)])).after.findings).toEqual([]);
  });
});

describe("the way to another host", () => {
  it("is open while any service there answers, and closed when none does", async () => {
    await spanning("far1", "far2", "far3", "far4");
    const addresses = ["10.0.0.3", "10.0.0.4", "10.0.0.5"];
    for (const address of addresses.slice(0, 2)) opened.probe.silent.add(address);
    expect(await diagnose(node(other))).toEqual([]);
    opened.probe.silent.add("10.0.0.5");
    opened.probe.asked.length = 0;
    const findings = await diagnose(node(other));
    expect(findings).toMatchObject([
      {
        code: "vxlan-unreachable",
        subject: `node n-0a (${other})`,
        what: "no answer to an echo from container c1: far1 (10.0.0.3), far2 (10.0.0.4), far3 (10.0.0.5)",
        remedy: expect.stringContaining("let UDP port 4789 through between 10.0.0.1 and 10.0.0.2"),
      },
    ]);
    // Twice, since a packet may get lost; and no more of a node than three.
    expect(opened.probe.asked).toEqual([...addresses, ...addresses]);
    // Who is gone cannot answer, and that is said by others.
    const codes = (await diagnose(node(other, { state: "gone" }))).map(({ code }) => code);
    expect(codes).toEqual(["claims-of-gone-node"]);
  });
});

describe("the network card", () => {
  it("17, flannel 1282, kubernetes 88986: that is known to spoil checksums of encapsulated packets is named while it computes them", async () => {
    await spanning("far");
    const features = ["rx-checksumming", "tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation"];
    const found = async (driver: string, on: readonly string[]) => {
      opened.probe.offloads.set("under0", { driver, features: on });
      return diagnose(node(other));
    };
    expect(await found("virtio_net", features)).toEqual([]);
    expect(await found("vmxnet3", ["rx-checksumming"])).toEqual([]);
    expect(await found("vmxnet3", features)).toMatchObject([
      {
        code: "checksum-offload",
        subject: "interface under0",
        remedy: expect.stringContaining(
          "ethtool -K under0 tx-udp_tnl-csum-segmentation off tx-udp_tnl-segmentation off",
        ),
      },
    ]);
  });

  it("is asked by ethtool's words", () => {
    const list = "Features for e0:\nrx-checksumming: on\n\ttx-udp_tnl-segmentation: on [fixed]\n\ttx-gre: off\n";
    expect(featuresOn(list)).toEqual(["rx-checksumming", "tx-udp_tnl-segmentation"]);
  });
});

describe("published ports", () => {
  it("that another program has are named with it", async () => {
    const sockets = new FakePortSockets();
    opened = await openController({ portSockets: sockets });
    const { libnetwork } = opened;
    const network = await libnetwork.createNetwork({ name: "web" });
    const endpoint = await libnetwork.createEndpoint(network.id, { name: "web" });
    const sandbox = await libnetwork.createSandbox({ containerId: "c1", ports: [parseRequest("8080:80")] });
    await libnetwork.attach(endpoint.id, sandbox.id);
    expect(await diagnose()).toEqual([]);
    sockets.taken.set("tcp 8080", "nginx");
    await opened.reopen();
    opened.probe.owners.set("tcp 8080", "nginx (process 7)");
    expect(await diagnose()).toMatchObject([
      {
        code: "port-not-held",
        subject: "container c1",
        what: "port 8080/tcp of the host is held by nginx (process 7)",
        remedy: expect.stringContaining("stop the other program"),
      },
    ]);
    sockets.taken.clear();
    await opened.reopen();
    expect(await diagnose()).toEqual([]);
  });
});

describe("clocks and leases", () => {
  it("a clock is told by heartbeats as they come in, both ways", async () => {
    await spanning("far");
    const heartbeat = new Date().toISOString();
    const found = async (skew: number) => (await diagnose(node(other, { heartbeat, skew }))).map(({ what }) => what);
    expect(await found(9_000)).toEqual([]);
    expect(await found(-9_000)).toEqual([]);
    expect(await found(61_000)).toEqual(["its clock is 61 s ahead of this node's"]);
    expect(await found(-61_000)).toEqual(["its clock is 61 s behind this node's"]);
  });

  it("a lease of one's own that has ended is found", async () => {
    await spanning("far");
    const { global } = opened.stores;
    const key = (room: string) => `${room}/${opened.libnetwork.node}`;
    await global.transact({ puts: [key("nodes"), key("alive")].map((each) => ({ key: each, value: {} })) });
    expect(await diagnose(node(other))).toEqual([]);
    await global.transact({ deletes: [key("alive")] });
    expect((await diagnose(node(other))).map(({ code }) => code)).toEqual(["lease-lost"]);
  });
});
