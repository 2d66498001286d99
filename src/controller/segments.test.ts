import { basename, join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { eventually } from "../../test/fakes/eventually.ts";
import { type Opened, openController } from "../../test/fakes/open-controller.ts";
import { segmentDriver } from "../../test/fakes/segment-driver.ts";
import { attached, closeNodes, node, opened } from "../../test/fakes/segment-nodes.ts";
import { bridgeDriver } from "../drivers/bridge/bridge-driver.ts";
import { overlayDriver } from "../drivers/overlay/overlay-driver.ts";
import type { Operation } from "../linux/plan.ts";
import { parseIp } from "../net/ip.ts";
import { parsePrefix } from "../net/prefix.ts";
import { MemoryStore } from "../store/memory/memory-store.ts";

/** Networks that span hosts, as the controller handles them: segment ids, presence, peers. */

afterEach(closeNodes);

const vnis = ({ libnetwork }: Opened) =>
  libnetwork.networks().flatMap(({ scope, subnets }) => (scope === "global" ? subnets.map(({ vni }) => vni) : []));

it("segment ids: in order, for the whole cluster, freed ones again, those asked for", async () => {
  const global = new MemoryStore();
  const [a, b] = [await node(global, "172.17.0.3"), await node(global, "172.17.0.4")];
  const create = ({ libnetwork }: Opened, name: string, options = {}, subnets: string[] = []) =>
    libnetwork.createNetwork({
      name,
      driver: "segment",
      options,
      subnets: subnets.map((pool) => ({ pool: parsePrefix(pool) })),
    });
  const first = await create(a, "first");
  await b.libnetwork.sync();
  await Promise.all([create(b, "second"), create(a, "third")]);
  await create(b, "two", {}, ["10.8.0.0/24", "10.9.0.0/24"]);
  await a.libnetwork.sync();
  expect(vnis(a)).toEqual([256, 257, 258, 259, 260]);
  await a.libnetwork.deleteNetwork(first.id);
  await create(a, "fixed", { ids: "299" });
  await create(a, "again");
  expect(vnis(a)).toEqual([257, 258, 259, 260, 299, 256]);
  await expect(create(a, "taken", { ids: "258" })).rejects.toMatchObject({ code: "segment-taken", status: 403 });
  expect((await global.list("global/segments/")).map(({ key }) => key.split("/").at(-1))).toEqual([
    "256",
    "257",
    "258",
    "259",
    "260",
    "299",
  ]);
});

it("a host has a network while an endpoint of it is attached there, with the endpoints of the others", async () => {
  const global = new MemoryStore();
  const [a, b] = [await node(global, "172.17.0.3"), await node(global, "172.17.0.4")];
  const { id } = await a.libnetwork.createNetwork({ name: "multihost", driver: "segment" });
  const path = `/run/netns/1-${id.slice(0, 10)}`;
  const fdb = ({ kernel }: Opened) =>
    kernel.applied.flatMap((operation) =>
      operation.op === "fdb.add" || operation.op === "fdb.delete"
        ? [`${operation.op} ${operation.mac} ${operation.destination}`]
        : [],
    );
  const c0 = await attached(a, id, "c0");
  expect(a.kernel.namespaces.has(path)).toBe(true);
  expect(b.kernel.namespaces.has(path)).toBe(false);
  expect(fdb(a)).toEqual([]);
  const c1 = await attached(b, id, "c1");
  // Known to B before its first interface is there; A follows.
  const seen = b.kernel.applied.map(({ op }) => op);
  expect(seen.indexOf("fdb.add")).toBeGreaterThan(seen.indexOf("namespace.add"));
  expect(fdb(b)).toEqual(["fdb.add 02:42:0a:00:00:02 172.17.0.3"]);
  await eventually("A knows c1", () => fdb(a).includes("fdb.add 02:42:0a:00:00:03 172.17.0.4"));
  await attached(a, id, "c2");
  expect(a.kernel.applied.filter(({ op }) => op === "fdb.add")).toHaveLength(1);
  await b.libnetwork.detach(c1.endpoint, c1.sandbox);
  await eventually("A forgets c1", () => fdb(a).includes("fdb.delete 02:42:0a:00:00:03 172.17.0.4"));
  expect(b.kernel.namespaces.has(path)).toBe(false);
  // Taken by force from the node that it is attached on: forgotten here as well, although the watch tells nothing new.
  await b.libnetwork.attach(c1.endpoint, c1.sandbox);
  await eventually("A knows c1 again", () => fdb(a).length === 3);
  await a.libnetwork.sync();
  await a.libnetwork.deleteEndpoint(c1.endpoint, { force: true });
  expect(fdb(a).slice(2)).toEqual(["fdb.add 02:42:0a:00:00:03 172.17.0.4", "fdb.delete 02:42:0a:00:00:03 172.17.0.4"]);
  await a.libnetwork.detach(c0.endpoint, c0.sandbox);
  expect(a.kernel.namespaces.has(path)).toBe(true);
  await a.libnetwork.deleteSandbox(a.libnetwork.sandboxes().find(({ containerId }) => containerId === "c2")?.id ?? "");
  expect(a.kernel.namespaces.has(path)).toBe(false);
});

it("an endpoint that was published anew with the address it had is never unknown to a host that follows late", async () => {
  const global = new MemoryStore();
  const [a, b] = [await node(global, "172.17.0.3"), await node(global, "172.17.0.4")];
  const { id } = await a.libnetwork.createNetwork({ name: "multihost", driver: "segment" });
  await attached(a, id, "c0");
  const { endpoint, sandbox } = await attached(b, id, "c1");
  const mac = "02:42:0a:00:00:03";
  const ofIt = () =>
    a.kernel.applied.flatMap((operation) => ("mac" in operation && operation.mac === mac ? [operation.op] : []));
  await eventually("A knows c1", () => ofIt().length > 0);

  // A is busy with another endpoint while c1 goes and comes back.
  const apply = a.kernel.apply.bind(a.kernel);
  const busy = Promise.withResolvers<void>();
  const held = vi.spyOn(a.kernel, "apply").mockImplementation(async (plan) => {
    await busy.promise;
    return apply(plan);
  });
  await attached(b, id, "c2");
  await b.libnetwork.deleteEndpoint(endpoint, { force: true });
  const again = await b.libnetwork.createEndpoint(id, { name: "c1" });
  await b.libnetwork.attach(again.id, sandbox);
  await eventually("A has heard", () => a.libnetwork.endpoints().some((one) => one.id === again.id && one.node));
  const before = ofIt().length;
  busy.resolve();
  held.mockRestore();
  await eventually("A has followed", () => ofIt().length > before);
  expect(ofIt()).not.toContain("fdb.delete");
  await b.libnetwork.detach(again.id, sandbox);
  await eventually("A forgets c1", () => ofIt().includes("fdb.delete"));
});

describe("a host that boots anew", () => {
  const scene = async () => {
    const global = new MemoryStore();
    const [a, b] = [await node(global, "172.17.0.3"), await node(global, "172.17.0.4")];
    const { id } = await a.libnetwork.createNetwork({ name: "multihost", driver: "segment" });
    // Whatever the order of their ids, some of them come before A's own and some after.
    const names = Array.from({ length: 12 }, (_, n) => `c${n}`);
    for (const [n, name] of names.entries()) await attached(n % 3 === 0 ? a : b, id, name);
    await a.libnetwork.close();
    a.kernel.reboot();
    a.naming.changes.length = 0;
    const known = () => new Set(a.naming.changes.map(([now]) => now?.name));
    const errors = () => a.lines.flatMap(({ level, message }) => (level === "error" ? [message] : []));
    return { a, known, errors, others: names.filter((_, n) => n % 3 !== 0) };
  };

  it("knows the names of all other hosts' endpoints, and says no error", async () => {
    const { a, known, errors, others } = await scene();
    await a.reopen();
    await eventually("all names are known", () => others.every((name) => known().has(name)));
    // Whatever is under way ends first.
    await a.libnetwork.close();
    expect(errors()).toEqual([]);
  });

  it("knows them although its own attachments cannot be followed", async () => {
    const { a, known, errors, others } = await scene();
    a.kernel.isNamespace = () => Promise.reject(new Error("no kernel"));
    await a.reopen();
    await eventually("all names are known", () => others.every((name) => known().has(name)));
    await eventually("each failure is said", () =>
      ["c0", "c3", "c6", "c9"].every((name) =>
        errors().some((text) => text.includes(`of endpoint ${name}: no kernel`)),
      ),
    );
  });
});

it("a node without an address for it refuses to join, and changes nothing", async () => {
  const global = new MemoryStore();
  const a = await node(global, undefined);
  const { id } = await a.libnetwork.createNetwork({ name: "multihost", driver: "segment" });
  const sandbox = await a.libnetwork.createSandbox({ containerId: "c" });
  const endpoint = await a.libnetwork.createEndpoint(id, { name: "c" });
  await expect(a.libnetwork.attach(endpoint.id, sandbox.id)).rejects.toMatchObject({ code: "no-vtep", status: 503 });
  expect(a.libnetwork.endpoint(endpoint.id).sandboxId).toBeUndefined();
});

describe("an answer of the store that got lost", () => {
  const prepare = async () => {
    const global = new MemoryStore();
    const a = await node(global, "172.17.0.3");
    const { id: network } = await a.libnetwork.createNetwork({ name: "multihost", driver: "segment" });
    const watch = global.watch.bind(global);
    let gate: Promise<void> = Promise.resolve();
    const b = await node(
      Object.assign(global, {
        watch: async function* (prefix: string, signal: AbortSignal) {
          for await (const event of watch(prefix, signal)) {
            await gate;
            yield event;
          }
        },
      }),
      "172.17.0.4",
    );
    await b.libnetwork.sync();
    const sandbox = await b.libnetwork.createSandbox({ containerId: "c" });
    const endpoint = await b.libnetwork.createEndpoint(network, { name: "c" });
    const lose = async (work: () => Promise<unknown>) => {
      global.fault = (point) => {
        if (point === "after-transact" || point === "before-get") throw new Error("connection reset");
      };
      await expect(work()).rejects.toMatchObject({ status: 503 });
      global.fault = () => undefined;
    };
    const closeGate = () => {
      const { promise, resolve } = Promise.withResolvers<void>();
      gate = promise;
      return resolve;
    };
    const isPresent = () => b.kernel.namespaces.has(`/run/netns/1-${network.slice(0, 10)}`);
    return { b, network, sandbox, endpoint, lose, closeGate, isPresent };
  };

  it("an attachment that was made is wired when the store tells of it", async () => {
    const { b, sandbox, endpoint, lose, isPresent } = await prepare();
    await lose(() => b.libnetwork.attach(endpoint.id, sandbox.id));
    await eventually("wired", isPresent);
    await b.libnetwork.sync();
    expect(b.libnetwork.sandbox(sandbox.id).endpoints).toContain(endpoint.id);
    await eventually("with a way out", () => b.libnetwork.sandbox(sandbox.id).endpoints.length === 2);
  });

  it("what was attached elsewhere is known by name when one has waited for what others wrote", async () => {
    const { b, network, closeGate } = await prepare();
    const [a] = opened;
    if (!a) throw new Error("no other node");
    await attached(b, network, "here");
    await b.libnetwork.sync();
    const open = closeGate();
    const far = await attached(a, network, "far");
    const isKnown = () => b.naming.changes.some(([after]) => after?.id === far.endpoint && after.sandbox !== undefined);
    const followed = b.state?.followed.global?.();
    expect(followed).toBeDefined();
    expect(isKnown()).toBe(false);
    open();
    await followed;
    expect(isKnown()).toBe(true);
  });

  it("a detachment that is found out about before the watch tells of it is unwired", async () => {
    const { b, network, sandbox, endpoint, lose, closeGate, isPresent } = await prepare();
    await b.libnetwork.attach(endpoint.id, sandbox.id);
    await b.libnetwork.sync();
    expect(isPresent()).toBe(true);
    const open = closeGate();
    await lose(() => b.libnetwork.detach(endpoint.id, sandbox.id));
    // The next change asks the store what became of the one before.
    await b.libnetwork.createEndpoint(network, { name: "other" });
    expect(b.libnetwork.endpoint(endpoint.id).sandboxId).toBeUndefined();
    open();
    await eventually("unwired", () => !isPresent());
  });
});

it.each(["the network", "an endpoint"])(
  "a start removes what a crash has left of %s in a namespace of its own",
  async (what) => {
    const namespaceDir = "/run/netns";
    const a = await openController({
      stores: { local: new MemoryStore(), global: new MemoryStore() },
      drivers: [segmentDriver(), bridgeDriver()],
      place: { vtep: parseIp("172.17.0.3") },
      namespaceDir,
    });
    opened.push(a);
    const { id } = await a.libnetwork.createNetwork({ name: "multihost", driver: "segment" });
    if (what === "an endpoint") await attached(a, id, "stays");
    const path = join(namespaceDir, `1-${id.slice(0, 10)}`);
    a.kernel.namespaces.add(path);
    await a.libnetwork.close();
    const gone = "e".repeat(64);
    const mark = (of: string) => `dnet:${a.libnetwork.node}:${of}`;
    const observe = a.kernel.observe.bind(a.kernel);
    a.kernel.observe = async (namespace) => {
      if (namespace !== path) return observe(namespace);
      const link = { index: 2, mtu: 1450, up: true, addresses: [] };
      return {
        links: [
          { ...link, name: "br0", alias: mark(id) },
          { ...link, name: "veth-gone", alias: mark(gone) },
          { ...link, name: "veth-other", alias: `dnet:00000000:${gone}` },
        ],
        routes: [],
      };
    };
    a.kernel.applied.length = 0;
    await a.reopen();
    const removed = a.kernel.applied.filter(({ op }) => op === "link.delete" || op === "namespace.delete");
    expect(removed.map((operation) => ("name" in operation ? operation.name : operation.op))).toEqual(
      what === "an endpoint" ? ["veth-gone"] : ["namespace.delete", "veth-gone"],
    );
  },
);

it("a table of a network that has no endpoint here goes at the start", async () => {
  const a = await node(new MemoryStore(), "172.17.0.3", { drivers: [overlayDriver(), bridgeDriver()] });
  const [here, elsewhere] = [
    await a.libnetwork.createNetwork({ name: "here", driver: "overlay" }),
    await a.libnetwork.createNetwork({ name: "elsewhere", driver: "overlay" }),
  ];
  await attached(a, here.id, "c1");
  await a.libnetwork.close();
  const table = ({ id }: { readonly id: string }) => `inet dnet_overlay_${id.slice(0, 10)}`;
  // The daemon was killed between the end of a namespace and that of its table; and one whose record is gone.
  a.probe.tableNames.push(table(here), table(elsewhere), table({ id: "0123456789" }), "inet filter");
  const before = a.kernel.applied.length;
  await a.reopen();
  const removed = a.kernel.applied
    .slice(before)
    .flatMap((operation) => (operation.op === "nft.apply" ? [operation.script] : []))
    .filter((script) => /delete table inet dnet_overlay_\w+\n$/.test(script));
  expect(removed.map((script) => script.trim().split("delete table ")[1])).toEqual([
    table(elsewhere),
    table({ id: "0123456789" }),
  ]);
});

it("a file that a namespace was mounted on goes at the start, where its network has no endpoint here", async () => {
  const a = await node(new MemoryStore(), "172.17.0.3", { drivers: [overlayDriver(), bridgeDriver()] });
  const { id } = await a.libnetwork.createNetwork({ name: "elsewhere", driver: "overlay" });
  // The daemon was killed while a namespace was unmounted; one is of a network whose record is gone, one of a sandbox that comes.
  const [known, unknown, sandbox] = [`1-${id.slice(0, 10)}`, "1-0123456789", "0123456789ab"].map(
    (n) => `/run/netns/${n}`,
  );
  for (const path of [known, unknown, sandbox]) a.kernel.vacant.add(path ?? "");
  const { findings } = await a.libnetwork.diagnose([]);
  expect(findings.filter(({ code }) => code === "orphan-namespace").map(({ subject }) => subject)).toEqual([
    `file ${known}`,
    `file ${unknown}`,
  ]);
  await a.libnetwork.close();
  await a.reopen();
  expect([...a.kernel.vacant]).toEqual([sandbox]);
});

it("a namespace in which nothing was made yet is known by its loopback, and goes at the start", async () => {
  const a = await node(new MemoryStore(), "172.17.0.3", { drivers: [overlayDriver(), bridgeDriver()] });
  const { id } = await a.libnetwork.createNetwork({ name: "elsewhere", driver: "overlay" });
  const ids = [id, "0".repeat(64)];
  const paths = ids.map((one) => `/run/netns/1-${one.slice(0, 10)}`);
  for (const path of [...paths, "/run/netns/1-aaaaaaaaaa"]) a.kernel.namespaces.add(path);
  a.probe.directories.set(
    "/run/netns",
    paths.map((path) => basename(path)),
  );
  const mark = `dnet:${a.libnetwork.node}:`;
  const observe = a.kernel.observe.bind(a.kernel);
  a.kernel.observe = async (namespace) => {
    if (!namespace.startsWith("/run/netns/1-")) return observe(namespace);
    const alias = ids.map((one) => `${mark}${one}`)[paths.indexOf(namespace)];
    const lo = { index: 1, name: "lo", mtu: 65_536, up: true, addresses: [], ...(alias !== undefined && { alias }) };
    return { links: [lo], routes: [] };
  };
  const { findings } = await a.libnetwork.diagnose([]);
  expect(findings.filter(({ code }) => code === "orphan-namespace").map(({ subject }) => subject)).toEqual(
    paths.map((path) => `namespace ${path}`),
  );
  await a.libnetwork.close();
  await a.reopen();
  expect([...a.kernel.namespaces].filter((path) => path.startsWith("/run/netns/1-"))).toEqual([
    "/run/netns/1-aaaaaaaaaa",
  ]);
  expect(a.lines.map(({ message }) => message)).toEqual(
    expect.arrayContaining(paths.map((path) => `found a namespace of ours in ${path}, expected none: removed`)),
  );
});

it("a detachment that the watch tells of first is not said to be another node's", async () => {
  const global = new MemoryStore();
  const a = await node(global, "172.17.0.3");
  const { id: network } = await a.libnetwork.createNetwork({ name: "multihost", driver: "segment" });
  const { endpoint, sandbox } = await attached(a, network, "c");
  await a.libnetwork.sync();
  const transact = global.transact.bind(global);
  vi.spyOn(global, "transact").mockImplementationOnce(async (transaction) => {
    const answer = await transact(transaction);
    await eventually("told", () => a.libnetwork.endpoint(endpoint).sandboxId === undefined);
    return answer;
  });
  await a.libnetwork.detach(endpoint, sandbox);
  // What the watch told of is acted on in order: a change of another node comes after it.
  const b = await node(global, "172.17.0.4");
  const far = await attached(b, network, "far");
  await eventually("followed", () => a.naming.changes.some(([after]) => after?.id === far.endpoint && after.sandbox));
  await a.libnetwork.close();
  expect(a.lines.filter(({ message }) => message.includes("by another node"))).toEqual([]);
});

describe("while everything is put right", () => {
  /** A repair in whose midst, when `moment` of the kernel comes, something else is begun and has been recorded. */
  const repairBeside = async (
    { libnetwork, kernel }: Opened,
    parts: { moment: (operation: Operation) => boolean; begin: () => Promise<unknown>; recorded: () => boolean },
  ): Promise<void> => {
    const apply = kernel.apply.bind(kernel);
    let begun: Promise<unknown> | undefined;
    vi.spyOn(kernel, "apply").mockImplementation(async (plan) => {
      if (!begun && plan.some(parts.moment)) {
        begun = parts.begin();
        await eventually("it is recorded", parts.recorded);
      }
      return apply(plan);
    });
    await libnetwork.repair([]);
    expect(begun).toBeDefined();
    await begun;
  };

  it("a network whose last endpoint leaves this host is not made here anew", async () => {
    const a = await node(new MemoryStore(), "172.17.0.3");
    const { libnetwork, kernel } = a;
    const [first, second] = [
      await libnetwork.createNetwork({ name: "first", driver: "segment" }),
      await libnetwork.createNetwork({ name: "second", driver: "segment" }),
    ];
    await attached(a, first.id, "c1");
    const { endpoint, sandbox } = await attached(a, second.id, "c2");
    const path = ({ id }: { readonly id: string }) => `/run/netns/1-${id.slice(0, 10)}`;
    // Somebody took it away.
    kernel.namespaces.delete(path(first));
    await repairBeside(a, {
      moment: (operation) => operation.op === "namespace.add" && operation.path === path(first),
      begin: () => libnetwork.detach(endpoint, sandbox),
      recorded: () => libnetwork.endpoint(endpoint).sandboxId === undefined,
    });
    expect([kernel.namespaces.has(path(first)), kernel.namespaces.has(path(second))]).toEqual([true, false]);
  });

  it("a network that is removed is not made anew", async () => {
    const a = await node(new MemoryStore(), "172.17.0.3");
    const { libnetwork, kernel } = a;
    const [first, second] = [
      await libnetwork.createNetwork({ name: "first", driver: "bridge" }),
      await libnetwork.createNetwork({ name: "second", driver: "bridge" }),
    ];
    const bridge = kernel.marked().get(first.id) ?? "";
    kernel.links.delete(bridge);
    await repairBeside(a, {
      moment: (operation) => operation.op === "link.add" && operation.link.name === bridge,
      begin: () => libnetwork.deleteNetwork(second.id),
      recorded: () => libnetwork.networks().every(({ id }) => id !== second.id),
    });
    expect([kernel.marked().has(first.id), kernel.marked().has(second.id)]).toEqual([true, false]);
  });
});
