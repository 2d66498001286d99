import { describe, expect, it } from "vitest";
import { type Opened, openController } from "../../test/fakes/open-controller.ts";
import { segmentDriver } from "../../test/fakes/segment-driver.ts";
import type { ClusterNode } from "../cluster/merge-nodes.ts";
import { bridgeDriver } from "../drivers/bridge/bridge-driver.ts";
import { parseIp } from "../net/ip.ts";
import { MemoryStore } from "../store/memory/memory-store.ts";
import type { Json } from "../store/store.ts";

const now = () => new Date().toISOString();
const node = (id: string, more: Partial<ClusterNode> = {}): ClusterNode => ({
  id,
  name: `n-${id.slice(0, 2)}`,
  address: parseIp("10.0.0.1"),
  version: "1",
  state: "alive",
  self: false,
  ...more,
});
const other = "0a0a0b02";

/** A controller with a network, a service in a container, and a probe that sees what the plans made. */
const filled = async () => {
  const opened = await openController();
  const { libnetwork, kernel, probe } = opened;
  const network = await libnetwork.createNetwork({ name: "net" });
  const endpoint = await libnetwork.createEndpoint(network.id, { name: "svc" });
  const sandbox = await libnetwork.createSandbox({ containerId: "c1" });
  await libnetwork.attach(endpoint.id, sandbox.id);
  const look = async (nodes: readonly ClusterNode[] = []) =>
    opened.libnetwork.diagnose([node(opened.libnetwork.node, { self: true }), ...nodes]);
  const codes = async (nodes: readonly ClusterNode[] = []) => (await look(nodes)).findings.map(({ code }) => code);
  const fix = async () => (await opened.libnetwork.repair([node(opened.libnetwork.node, { self: true })])).after;
  return { opened, libnetwork, kernel, probe, network, endpoint, sandbox, look, codes, fix };
};
type Filled = Awaited<ReturnType<typeof filled>>;

/** Changes the store behind the controller's back, while it is closed. */
const edit = async (opened: Opened, change: { puts?: Record<string, Json>; deletes?: readonly string[] }) => {
  const puts = Object.entries(change.puts ?? {}).map(([key, value]) => ({ key: `local/${key}`, value }));
  const deletes = (change.deletes ?? []).map((key) => `local/${key}`);
  await opened.stores.local.transact({ puts, deletes });
  await opened.reopen();
};

it("finds nothing where all is as it should be, and has looked at everything", async () => {
  const { look } = await filled();
  const found = await look([node(other, { heartbeat: now() })]);
  expect(found.findings).toEqual([]);
  expect(found.unchecked).toEqual([]);
  expect(found.checked).toHaveLength(16);
});

describe("the kernel against the records", () => {
  const bridge = ({ network }: Filled) => `br-${network.id.slice(0, 12)}`;
  const veth = ({ endpoint }: Filled) => `veth${endpoint.id.slice(0, 11)}`;
  const namespace = ({ sandbox }: Filled) => sandbox.key;
  it.each<[string, readonly string[], (all: Filled) => Promise<unknown>]>([
    ["a bridge that is gone", ["link-differs"], async (all) => remove(all, bridge(all))],
    [
      "a bridge that lost its address",
      ["no-address"],
      async (all) =>
        all.kernel.teardown([
          { op: "address.delete", namespace: "host", device: bridge(all), address: addressOf(all) },
        ]),
    ],
    ["an interface that is gone", ["link-differs", "no-route"], async (all) => remove(all, veth(all))],
    [
      "a default route that is gone",
      ["no-route"],
      async (all) =>
        all.kernel.teardown([{ op: "route.delete", namespace: namespace(all), route: { to: "0.0.0.0/0" as never } }]),
    ],
  ])("%s is found, and put right", async (_what, expected, damage) => {
    const all = await filled();
    await damage(all);
    const { findings } = await all.look();
    expect([...new Set(findings.map(({ code }) => code))].filter((code) => !expected.includes(code))).toEqual([]);
    expect(findings.length).toBeGreaterThan(0);
    expect(findings.every(({ repairable, remedy }) => repairable && remedy.includes("dnet doctor --repair"))).toBe(
      true,
    );
    expect((await all.fix()).findings).toEqual([]);
  });

  const remove = (all: Filled, name: string) => all.kernel.teardown([{ op: "link.delete", namespace: "host", name }]);
  const addressOf = ({ network }: Filled) => network.subnets[0]?.gateway as never;

  it("a container whose namespace is gone loses its records by the repair", async () => {
    const { codes, kernel, sandbox, fix, libnetwork } = await filled();
    await kernel.teardown([{ op: "namespace.delete", path: sandbox.key }]);
    expect(await codes()).toEqual(["no-namespace"]);
    expect((await fix()).findings).toEqual([]);
    expect(libnetwork.sandboxes()).toEqual([]);
  });

  it("links of ours without a record are found and removed; others' are not", async () => {
    const { codes, kernel, libnetwork, fix } = await filled();
    const link = (name: string, alias: string) =>
      kernel.apply([{ op: "link.add", namespace: "host", link: { kind: "dummy", name, alias } }]);
    await link("foreign0", `dnet:ffffffff:${"e".repeat(64)}`);
    expect(await codes()).toEqual([]);
    await link("lost0", `dnet:${libnetwork.node}:${"e".repeat(64)}`);
    expect(await codes()).toEqual(["orphan-link"]);
    expect((await fix()).findings).toEqual([]);
    expect([...kernel.links.keys()]).toContain("foreign0");
  });

  it("a directory of a sandbox without a record is found and removed", async () => {
    const { opened, codes, fix } = await filled();
    opened.naming.made.add("d".repeat(64));
    expect(await codes()).toEqual(["orphan-sandbox"]);
    expect((await fix()).findings).toEqual([]);
    expect(opened.naming.made.has("d".repeat(64))).toBe(false);
  });

  it("a parameter that was changed is found", async () => {
    const { probe, codes } = await filled();
    probe.files.set("/proc/sys/net/ipv4/ip_forward", "1");
    expect(await codes()).toEqual([]);
    probe.files.set("/proc/sys/net/ipv4/ip_forward", "0");
    expect(await codes()).toEqual(["setting-differs"]);
  });

  it("rules that differ are found", async () => {
    const { kernel, look } = await filled();
    const difference = { table: "inet t", absent: true, missing: [], extra: [], expected: 0, reordered: false };
    kernel.standing = [difference];
    expect((await look()).findings).toMatchObject([{ code: "firewall-differs", what: "no table inet t" }]);
  });
});

describe("files and resolvers", () => {
  it("what a container lacks is found", async () => {
    const { opened, sandbox, look } = await filled();
    opened.naming.problems.set(sandbox.id, [{ part: "hosts", what: "/x/hosts is not there" }]);
    expect((await look()).findings).toMatchObject([{ code: "no-file", subject: "container c1" }]);
  });

  it("a resolver that does not run is started", async () => {
    const { opened, sandbox, codes, fix } = await filled();
    opened.naming.running.delete(sandbox.id);
    expect(await codes()).toEqual(["no-resolver"]);
    expect((await fix()).findings).toEqual([]);
    expect(opened.naming.running.has(sandbox.id)).toBe(true);
  });
});

describe("keys against their owners", () => {
  it.each<[string, string, (all: Filled) => Parameters<typeof edit>[1]]>([
    [
      "a name nobody has",
      "guard-without-owner",
      () => ({ puts: { "network-names/ghost": { network: "e".repeat(64) } } }),
    ],
    [
      "an address nobody has",
      "guard-without-owner",
      ({ network }) => ({ puts: { [`addresses/${network.id}/172.17.0.99`]: { endpoint: "e".repeat(64) } } }),
    ],
    [
      "a segment nobody has",
      "guard-without-owner",
      () => ({ puts: { "segments/overlay/300": { network: "e".repeat(64) } } }),
    ],
    [
      "a container nobody has",
      "guard-without-owner",
      () => ({ puts: { "containers/c9": { sandbox: "e".repeat(64) } } }),
    ],
    ["a network's name without its key", "no-guard", () => ({ deletes: ["network-names/net"] })],
    [
      "a service's name without its key",
      "no-guard",
      ({ network }) => ({ deletes: [`endpoint-names/${network.id}/svc`] }),
    ],
    ["an address without its key", "no-guard", ({ network }) => ({ deletes: [`addresses/${network.id}/172.17.0.2`] })],
    ["a container without its key", "no-guard", () => ({ deletes: ["containers/c1"] })],
  ])("%s is found and put right", async (_what, code, change) => {
    const all = await filled();
    await edit(all.opened, change(all));
    expect(await all.codes()).toEqual([code]);
    expect((await all.fix()).findings).toEqual([]);
  });

  it("a name that another has is found, and left to a person", async () => {
    const { opened, codes, fix } = await filled();
    await edit(opened, { puts: { "network-names/net": { network: "e".repeat(64) } } });
    expect(await codes()).toEqual(["guard-of-another"]);
    expect((await fix()).findings).toMatchObject([{ repairable: false }]);
  });
});

describe("services against what they name", () => {
  it("one whose network is gone is found and removed", async () => {
    const { opened, network, codes, fix, libnetwork } = await filled();
    await edit(opened, { deletes: [`networks/${network.id}`, "network-names/net", `network-use/${network.id}`] });
    expect(await codes()).toContain("service-without-network");
    await fix();
    expect((await fix()).findings).toEqual([]);
    expect(libnetwork.networks().length).toBeGreaterThan(0);
  });

  it("nodes that are gone or unknown and have services are found; those that left in good order are not", async () => {
    const local = new MemoryStore();
    const global = new MemoryStore();
    const drivers = [bridgeDriver(), segmentDriver()];
    const place = { vtep: parseIp("10.0.0.1") };
    const opened = await openController({ stores: { local, global }, drivers, place });
    const { libnetwork } = opened;
    const network = await libnetwork.createNetwork({ name: "multi", driver: "segment" });
    const endpoint = await libnetwork.createEndpoint(network.id, { name: "svc" });
    const key = `global/endpoints/${network.id}/${endpoint.id}`;
    const record = (await global.get(key))?.value as Record<string, Json>;
    const sandbox = { id: "c".repeat(64), node: other, container: "far", interface: "eth0", order: 0, aliases: [] };
    await global.transact({ puts: [{ key, value: { ...record, sandbox } }] });
    const codes = async (...nodes: readonly ClusterNode[]) =>
      (await libnetwork.diagnose([node(libnetwork.node, { self: true }), ...nodes])).findings.map(({ code }) => code);
    expect(await codes(node(other, { heartbeat: now() }))).toEqual([]);
    expect(await codes(node(other, { state: "left" }))).toEqual([]);
    expect(await codes(node(other, { state: "gone", since: now() }))).toEqual(["claims-of-gone-node"]);
    expect(await codes()).toEqual(["claims-of-unknown-node"]);
    await libnetwork.close();
  });
});

describe("nodes", () => {
  const self = { serf: { name: "a", status: "alive" } } as const;
  it("a clock that is wrong is found", async () => {
    const { codes } = await filled();
    const at = (seconds: number) => node(other, { heartbeat: new Date(Date.now() + seconds * 1_000).toISOString() });
    expect(await codes([at(-30)])).toEqual([]);
    expect(await codes([at(3_600)])).toEqual(["clock-skew"]);
    expect(await codes([at(-7_200)])).toEqual(["clock-skew"]);
  });

  it("a node that the gossip does not reach is found", async () => {
    const { libnetwork } = await filled();
    const codes = async (more: Partial<ClusterNode>) =>
      (
        await libnetwork.diagnose([
          node(libnetwork.node, { self: true, ...self }),
          node(other, { serfPort: 7946, ...more }),
        ])
      ).findings.map(({ code }) => code);
    expect(await codes({ serf: { name: "b", status: "alive" } })).toEqual([]);
    expect(await codes({ serf: { name: "b", status: "failed" } })).toEqual(["gossip-unreachable"]);
    expect(await codes({})).toEqual(["gossip-unreachable"]);
    expect(await codes({ state: "gone", serf: { name: "b", status: "failed" } })).toEqual([]);
  });
});

describe("the host", () => {
  it("what the kernel cannot make is found, and nothing is left of the trial", async () => {
    const { kernel, look } = await filled();
    kernel.fault = (operation) => {
      if (operation.op === "link.add" && operation.link.kind === "vxlan") throw new Error("EOPNOTSUPP");
    };
    expect((await look()).findings).toMatchObject([{ code: "kernel-feature", what: expect.stringContaining("VXLAN") }]);
    expect([...kernel.namespaces].filter((path) => path.includes("doctor-"))).toEqual([]);
  });

  it("a table of neighbours that is nearly full, and too few descriptors are found", async () => {
    const { kernel, probe, codes } = await filled();
    kernel.neighbors = [{ family: 4, entries: 1_000, limit: 1_024 }];
    expect(await codes()).toEqual(["neighbour-table-full"]);
    kernel.neighbors = [{ family: 4, entries: 10, limit: 1_024 }];
    probe.files.set("/proc/self/limits", "Max open files            64                   64                   files");
    expect(await codes()).toEqual(["few-descriptors"]);
    probe.files.set("/proc/self/limits", "Max open files            524288               524288               files");
    expect(await codes()).toEqual([]);
  });
});

it("a check that cannot look says so, and is no difference", async () => {
  const { kernel, look } = await filled();
  kernel.neighborTables = () => Promise.reject(new Error("no netlink"));
  expect(await look()).toMatchObject({ findings: [], unchecked: [{ check: "host", reason: "no netlink" }] });
});
