import { expect, it } from "vitest";
import { openController } from "../../test/fakes/open-controller.ts";
import { segmentDriver } from "../../test/fakes/segment-driver.ts";
import type { ClusterNode } from "../cluster/merge-nodes.ts";
import { bridgeDriver } from "../drivers/bridge/bridge-driver.ts";
import { parseIp } from "../net/ip.ts";
import { MemoryStore } from "../store/memory/memory-store.ts";
import type { Json } from "../store/store.ts";

const gone = "0a0a0b02";
const node = (id: string, name: string, more: Partial<ClusterNode> = {}): ClusterNode => ({
  id,
  name,
  address: parseIp("10.0.0.1"),
  version: "1",
  state: "alive",
  self: false,
  ...more,
});

/** Two services of a shared network, one of them attached on a node that is gone. */
const filled = async () => {
  const [local, global] = [new MemoryStore(), new MemoryStore()];
  const place = { vtep: parseIp("10.0.0.1") };
  const opened = await openController({ stores: { local, global }, drivers: [bridgeDriver(), segmentDriver()], place });
  const { libnetwork } = opened;
  const network = await libnetwork.createNetwork({ name: "multi", driver: "segment" });
  const endpoint = await libnetwork.createEndpoint(network.id, { name: "svc" });
  await libnetwork.createEndpoint(network.id, { name: "other" });
  const key = `global/endpoints/${network.id}/${endpoint.id}`;
  const record = (await global.get(key))?.value as Record<string, Json>;
  const sandbox = {
    id: "c".repeat(64),
    node: gone,
    vtep: "10.0.0.2",
    container: "far",
    interface: "eth0",
    order: 0,
    aliases: [],
  };
  await global.transact({
    puts: [
      { key, value: { ...record, sandbox } },
      { key: `nodes/${gone}`, value: { id: gone } },
    ],
  });
  await libnetwork.sync();
  const nodes = [
    node(libnetwork.node, "me", { self: true }),
    node(gone, "lost", { state: "gone" }),
    node("0c0c0c0c", "up"),
  ];
  const collect = (names: readonly string[], more: { endpoints?: boolean; dryRun?: boolean } = {}) =>
    libnetwork.collectGarbage(nodes, { nodes: names, endpoints: false, dryRun: false, ...more });
  return { opened, libnetwork, global, network, endpoint, collect };
};
const claim = "service svc of network multi: detached from container far";

it("frees what is claimed there, and forgets the node", async () => {
  const { libnetwork, global, endpoint, collect } = await filled();
  const what = ({ what }: { what: string }) => what;
  expect((await collect(["lost"], { dryRun: true })).garbage.map(what)).toEqual([claim, "the record of the node"]);
  expect((await collect([])).removed).toBe(false);
  expect(libnetwork.endpoint(endpoint.id).node).toBe(gone);
  const { removed, garbage } = await collect(["lost"]);
  expect(removed).toBe(true);
  expect(garbage.map(what)).toEqual([claim, "the record of the node"]);
  expect(libnetwork.endpoint(endpoint.id).node).toBeUndefined();
  expect(await global.get(`nodes/${gone}`)).toBeUndefined();
  expect((await collect([gone])).garbage).toEqual([]);
  const sandbox = await libnetwork.createSandbox({ containerId: "c1" });
  await libnetwork.attach(endpoint.id, sandbox.id);
  await libnetwork.close();
});

it("removes services where that is asked for, with their names and addresses", async () => {
  const { libnetwork, network, endpoint, collect } = await filled();
  expect((await collect([gone], { endpoints: true })).garbage).toMatchObject([{ kind: "service" }, { kind: "node" }]);
  expect(libnetwork.endpoints().map(({ name }) => name)).toEqual(["other"]);
  expect(await libnetwork.createEndpoint(network.id, { name: "svc" })).toMatchObject({ addresses: endpoint.addresses });
  await libnetwork.close();
});

it("never touches a node that is alive, as this node or the store knows", async () => {
  const { libnetwork, global, collect, endpoint } = await filled();
  await expect(collect(["me"])).rejects.toMatchObject({ code: "node-alive" });
  await expect(collect(["up"])).rejects.toMatchObject({ code: "node-alive" });
  await expect(collect(["nosuch"])).rejects.toMatchObject({ code: "no-node" });
  await global.transact({ puts: [{ key: `alive/${gone}`, value: { heartbeat: new Date().toISOString() } }] });
  await expect(collect(["lost"])).rejects.toMatchObject({ code: "node-alive" });
  expect(libnetwork.endpoint(endpoint.id).node).toBe(gone);
  expect(await global.get(`nodes/${gone}`)).toBeDefined();
  await libnetwork.close();
});
