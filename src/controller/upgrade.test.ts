import { globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { openController } from "../../test/fakes/open-controller.ts";
import { segmentDriver } from "../../test/fakes/segment-driver.ts";
import { aliveRecordSchema, nodeRecordSchema } from "../cluster/node-record.ts";
import { bridgeDriver } from "../drivers/bridge/bridge-driver.ts";
import { parseIp } from "../net/ip.ts";
import { MemoryStore } from "../store/memory/memory-store.ts";
import type { Json } from "../store/store.ts";
import { endpointRecord, networkRecord, sandboxRecord } from "./records.ts";

type Golden = Readonly<Record<string, Readonly<Record<string, Json>>>>;
const goldenFiles = globSync(fileURLToPath(new URL("../../test/golden/records/version-*.json", import.meta.url)));
const schemas = {
  networks: networkRecord,
  endpoints: endpointRecord,
  sandboxes: sandboxRecord,
  nodes: nodeRecordSchema,
  alive: aliveRecordSchema,
};

describe.each(goldenFiles.map((path) => [path.replace(/^.*\//, ""), path]))("records of %s", (_name, path) => {
  const golden = JSON.parse(readFileSync(path, "utf8")) as Golden;

  it("still parse, to what was written", () => {
    let read = 0;
    for (const [key, value] of Object.entries(golden)) {
      const room = key.replace(/^(local|global)\//, "").split("/")[0] ?? "";
      if (!Object.hasOwn(schemas, room)) continue;
      const schema = schemas[room as keyof typeof schemas];
      expect(JSON.parse(JSON.stringify(schema.parse(value)))).toEqual(value);
      read++;
    }
    expect(read).toBeGreaterThanOrEqual(10);
  });

  it("make a controller in which nothing is missing and nothing is odd", async () => {
    const [local, global] = [new MemoryStore(), new MemoryStore()];
    const entries = Object.entries(golden);
    const of = (prefix: string) =>
      entries.filter(([key]) => key.startsWith(prefix)).map(([key, value]) => ({ key, value }));
    const node = "0a1b2c3d";
    await local.transact({ puts: [...of("local/"), { key: "host/instance", value: node }] });
    await global.transact({ puts: [...of("global/"), ...of("nodes/"), ...of("alive/")] });
    const drivers = [bridgeDriver(), { ...segmentDriver(), name: "overlay" }];
    const opened = await openController({ stores: { local, global }, drivers, place: { vtep: parseIp("10.0.0.1") } });
    opened.kernel.namespaces.add(`/run/netns/${"6".repeat(12)}`);
    // The first start found no namespace, as after a reboot: what the records say is seen at a start that finds it.
    await local.transact({ puts: of("local/") });
    const libnetwork = await opened.reopen();
    expect(
      libnetwork
        .networks()
        .map(({ name }) => name)
        .sort(),
    ).toEqual(["multi", "web"]);
    expect(
      libnetwork
        .endpoints()
        .map(({ name }) => name)
        .sort(),
    ).toEqual(["db", "far", "free"]);
    expect(
      libnetwork
        .sandboxes()
        .map(({ containerId }) => containerId)
        .sort(),
    ).toEqual(["c1", "h1"]);
    expect(libnetwork.degraded).toEqual([]);
    const { findings } = await libnetwork.diagnose([]);
    expect(findings.map(({ code }) => code)).toEqual(["claims-of-unknown-node"]);
    await libnetwork.close();
  });
});

describe("what a newer dnet has written", () => {
  /** A controller whose store has its records made newer, between two starts. */
  const newer = async (rooms: readonly string[]) => {
    const opened = await openController();
    const first = opened.libnetwork;
    const network = await first.createNetwork({ name: "net" });
    const endpoint = await first.createEndpoint(network.id, { name: "svc" });
    const sandbox = await first.createSandbox({ containerId: "c1" });
    await first.attach(endpoint.id, sandbox.id);
    const store = opened.stores.local;
    const kept = new Map<string, Json>();
    for (const { key, value } of await store.list("local/")) {
      if (!rooms.includes(key.split("/")[1] ?? "") || typeof value !== "object" || value === null) continue;
      kept.set(key, { ...value, version: 2, extra: ["new"] });
    }
    await store.transact({ puts: [...kept].map(([key, value]) => ({ key, value })) });
    const before = { links: [...opened.kernel.links.keys()], namespaces: [...opened.kernel.namespaces] };
    const libnetwork = await opened.reopen();
    const unchanged = async () => {
      for (const [key, value] of kept) expect((await store.get(key))?.value).toEqual(value);
      expect([...opened.kernel.links.keys()]).toEqual(expect.arrayContaining(before.links));
      expect([...opened.kernel.namespaces]).toEqual(expect.arrayContaining(before.namespaces));
      expect(opened.naming.made.has(sandbox.id)).toBe(true);
    };
    const codes = async () => (await libnetwork.diagnose([])).findings.map(({ code }) => code);
    return { opened, libnetwork, network, endpoint, sandbox, unchanged, codes };
  };
  const refused = (text: string) => ({
    code: "newer-record",
    kind: "no-service",
    message: `${text} was written by a newer dnet (record version 2): it is left alone`,
    hint: "use that version of dnet on this node too",
  });

  it("a network: neither it, nor its name, nor its pool, nor its services are touched", async () => {
    const { opened, libnetwork, network, endpoint, unchanged, codes } = await newer(["networks"]);
    expect(libnetwork.networks()).toEqual([]);
    expect(() => libnetwork.network(network.id)).toThrow(expect.objectContaining(refused("network net")));
    await expect(libnetwork.createNetwork({ name: "net" })).rejects.toMatchObject(refused("network net"));
    await expect(libnetwork.createEndpoint(network.id, { name: "x" })).rejects.toMatchObject(refused("network net"));
    await expect(libnetwork.deleteNetwork(network.id)).rejects.toMatchObject(refused("network net"));
    await expect(libnetwork.deleteEndpoint(endpoint.id, { force: true })).rejects.toMatchObject(refused("network net"));
    const { subnets } = await libnetwork.createNetwork({ name: "another" });
    expect(subnets.map(({ pool }) => pool)).not.toContain(network.subnets[0]?.pool);
    expect(await codes()).toEqual(["newer-record", "unusable-container"]);
    const keys = await opened.keys();
    await libnetwork.repair([]);
    expect(await opened.keys()).toEqual(keys);
    expect(libnetwork.degraded).toEqual([expect.stringContaining("network net")]);
    await unchanged();
  });

  it("a service: neither its name nor its address goes to another, and its network cannot be removed", async () => {
    const { libnetwork, network, endpoint, unchanged, codes } = await newer(["endpoints"]);
    expect(libnetwork.endpoints()).toEqual([]);
    await expect(libnetwork.createEndpoint(network.id, { name: "svc" })).rejects.toMatchObject(refused("service svc"));
    const { addresses } = await libnetwork.createEndpoint(network.id, { name: "next" });
    expect(addresses).not.toEqual(endpoint.addresses);
    expect(() => libnetwork.endpoint(endpoint.id)).toThrow(expect.objectContaining(refused("service svc")));
    await libnetwork.deleteEndpoint(libnetwork.endpoints()[0]?.id ?? "");
    await expect(libnetwork.deleteNetwork(network.id)).rejects.toMatchObject(refused("service svc"));
    expect(await codes()).toEqual(["newer-record"]);
    await libnetwork.repair([]);
    await unchanged();
  });

  it("a container: neither its namespace nor its name nor its claims are taken", async () => {
    const { libnetwork, sandbox, endpoint, unchanged, codes } = await newer(["sandboxes"]);
    expect(libnetwork.sandboxes()).toEqual([]);
    await expect(libnetwork.createSandbox({ containerId: "c1" })).rejects.toMatchObject(refused("container c1"));
    await expect(libnetwork.deleteSandbox(sandbox.id)).rejects.toMatchObject(refused("container c1"));
    expect(libnetwork.endpoint(endpoint.id).containerId).toBe("c1");
    expect(await codes()).toEqual(["newer-record"]);
    await libnetwork.repair([]);
    await unchanged();
  });

  it("a record that another node makes newer while it is in use here stays wired", async () => {
    const [local, global] = [new MemoryStore(), new MemoryStore()];
    const place = { vtep: parseIp("10.0.0.1") };
    const opened = await openController({
      stores: { local, global },
      drivers: [bridgeDriver(), segmentDriver()],
      place,
    });
    const { libnetwork, kernel } = opened;
    const network = await libnetwork.createNetwork({ name: "multi", driver: "segment" });
    const endpoint = await libnetwork.createEndpoint(network.id, { name: "svc" });
    const sandbox = await libnetwork.createSandbox({ containerId: "c1" });
    await libnetwork.attach(endpoint.id, sandbox.id);
    const key = `global/endpoints/${network.id}/${endpoint.id}`;
    const value = (await global.get(key))?.value as Record<string, Json>;
    const path = `/run/netns/1-${network.id.slice(0, 10)}`;
    expect(kernel.namespaces.has(path)).toBe(true);
    await global.transact({ puts: [{ key, value: { ...value, version: 2 } }] });
    await libnetwork.sync();
    expect(libnetwork.endpoints()).toEqual([]);
    await libnetwork.repair([]);
    await opened.reopen();
    expect(kernel.namespaces.has(path)).toBe(true);
    expect((await global.get(key))?.value).toMatchObject({ version: 2 });
    await libnetwork.close();
    await opened.libnetwork.close();
  });
});

describe("records that fit no schema", () => {
  it("are not shown and not overwritten, and a repair sets them aside", async () => {
    const opened = await openController();
    const network = await opened.libnetwork.createNetwork({ name: "net" });
    const endpoint = await opened.libnetwork.createEndpoint(network.id, { name: "svc" });
    const key = `local/endpoints/${network.id}/${endpoint.id}`;
    const damaged = { version: 1, id: endpoint.id, name: "svc", addresses: [...endpoint.addresses] };
    await opened.stores.local.transact({ puts: [{ key, value: damaged }] });
    const libnetwork = await opened.reopen();
    await expect(libnetwork.createEndpoint(network.id, { name: "svc" })).rejects.toMatchObject({
      code: "unreadable-record",
      hint: "see what to do with: dnet doctor",
    });
    expect((await opened.stores.local.get(key))?.value).toEqual(damaged);
    const { after } = await libnetwork.repair([]);
    expect(after.findings).toEqual([]);
    expect((await opened.stores.local.get(`quarantine/${key}`))?.value).toEqual(damaged);
    expect((await libnetwork.createEndpoint(network.id, { name: "svc" })).addresses).toEqual(endpoint.addresses);
  });
});
