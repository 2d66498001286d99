import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { type Opened, openController } from "../../test/fakes/open-controller.ts";
import { segmentDriver } from "../../test/fakes/segment-driver.ts";
import { bridgeDriver } from "../drivers/bridge/bridge-driver.ts";
import { overlayDriver } from "../drivers/overlay/overlay-driver.ts";
import type { Operation } from "../linux/plan.ts";
import { parseIp } from "../net/ip.ts";
import { parsePrefix } from "../net/prefix.ts";
import { MemoryStore } from "../store/memory/memory-store.ts";

/** Networks that span hosts, as the controller handles them: segment ids, presence, peers, the way out. */

const opened: Opened[] = [];
afterEach(async () => {
  for (const { libnetwork } of opened.splice(0)) await libnetwork.close();
});

const node = async (global: MemoryStore, vtep: string | undefined): Promise<Opened> => {
  const one = await openController({
    stores: { local: new MemoryStore(), global },
    drivers: [segmentDriver(), bridgeDriver()],
    gateway: { name: "docker_gwbridge", driver: "bridge", options: {} },
    ...(vtep !== undefined && { place: { vtep: parseIp(vtep) } }),
  });
  opened.push(one);
  return one;
};

const eventually = async (what: string, condition: () => boolean) => {
  const end = performance.now() + 5_000;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not within 5 s: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
};

/** A container with one service of the same name on the network, attached. */
const attached = async ({ libnetwork }: Opened, network: string, name: string) => {
  const sandbox = libnetwork.sandboxes().find(({ containerId }) => containerId === name);
  const { id } = sandbox ?? (await libnetwork.createSandbox({ containerId: name }));
  await libnetwork.sync();
  const endpoint = await libnetwork.createEndpoint(network, { name });
  await libnetwork.attach(endpoint.id, id);
  return { endpoint: endpoint.id, sandbox: id };
};

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

it("a node without an address for it refuses to join, and changes nothing", async () => {
  const global = new MemoryStore();
  const a = await node(global, undefined);
  const { id } = await a.libnetwork.createNetwork({ name: "multihost", driver: "segment" });
  const sandbox = await a.libnetwork.createSandbox({ containerId: "c" });
  const endpoint = await a.libnetwork.createEndpoint(id, { name: "c" });
  await expect(a.libnetwork.attach(endpoint.id, sandbox.id)).rejects.toMatchObject({ code: "no-vtep", status: 503 });
  expect(a.libnetwork.endpoint(endpoint.id).sandboxId).toBeUndefined();
});

it("a way out comes with the first network that has none and goes with the last, and survives a crash", async () => {
  const a = await node(new MemoryStore(), "172.17.0.3");
  const names = () =>
    a.libnetwork
      .endpoints()
      .filter(({ network }) => network === "docker_gwbridge")
      .map(({ name, containerId }) => `${name} ${containerId}`);
  const first = await a.libnetwork.createNetwork({ name: "first", driver: "segment" });
  const second = await a.libnetwork.createNetwork({ name: "second", driver: "segment" });
  const inner = await a.libnetwork.createNetwork({ name: "inner", driver: "segment", internal: true });
  const web = await a.libnetwork.createNetwork({ name: "web", driver: "bridge" });
  const { sandbox } = await attached(a, inner.id, "c");
  expect(names()).toEqual([]);
  const one = await attached(a, first.id, "c");
  expect(names()).toEqual(["gateway_c c"]);
  const two = await attached(a, second.id, "c");
  expect(names()).toEqual(["gateway_c c"]);
  await a.libnetwork.detach(one.endpoint, sandbox);
  expect(names()).toEqual(["gateway_c c"]);
  // A bridge network is a way out itself.
  const bridge = await attached(a, web.id, "c");
  expect(names()).toEqual([]);
  await a.libnetwork.detach(bridge.endpoint, sandbox);
  expect(names()).toEqual(["gateway_c c"]);
  await a.libnetwork.detach(two.endpoint, sandbox);
  expect(names()).toEqual([]);
  // A crash between the two steps, in both directions: the start puts it right.
  await a.libnetwork.attach(two.endpoint, sandbox);
  await a.libnetwork.close();
  const local = a.stores.local;
  const [left] = (await local.list("local/endpoints/")).filter(({ value }) =>
    JSON.stringify(value).includes("gateway_c"),
  );
  const { sandbox: _claim, ...free } = (left?.value ?? {}) as { sandbox?: unknown };
  await local.transact({ puts: [{ key: left?.key ?? "", value: free as never }] });
  await a.reopen();
  expect(names()).toEqual(["gateway_c c"]);
  await a.libnetwork.deleteSandbox(sandbox);
  expect(names()).toEqual([]);
  const long = await attached(a, first.id, "f".repeat(63));
  expect(names()[0]).toMatch(/^gateway_f{42}_[0-9a-f]{12} f{63}$/);
  await a.libnetwork.detach(long.endpoint, long.sandbox);
});

it("an attachment whose sandbox is removed while its way out is made was an attachment", async () => {
  const a = await node(new MemoryStore(), "172.17.0.3");
  const { id: network } = await a.libnetwork.createNetwork({ name: "multihost", driver: "segment" });
  const sandbox = await a.libnetwork.createSandbox({ containerId: "c" });
  const endpoint = await a.libnetwork.createEndpoint(network, { name: "c" });
  const transact = a.stores.local.transact.bind(a.stores.local);
  a.stores.local.transact = async (transaction) => {
    // The way out's endpoint is about to be published.
    if (transaction.puts?.some(({ key }) => key.startsWith("local/endpoints/"))) {
      a.stores.local.transact = transact;
      await a.libnetwork.deleteSandbox(sandbox.id);
    }
    return transact(transaction);
  };
  // The endpoint went with the sandbox that it was in: nobody must hear that it never was there.
  expect(await a.libnetwork.attach(endpoint.id, sandbox.id)).toMatchObject({ containerId: "c" });
  expect(a.libnetwork.endpoints()).toEqual([]);
  expect(a.libnetwork.sandboxes()).toEqual([]);
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

it("a detachment is one although the sandbox is removed while its way out goes", async () => {
  const a = await node(new MemoryStore(), "172.17.0.3");
  const { id: network } = await a.libnetwork.createNetwork({ name: "multihost", driver: "segment" });
  const { endpoint, sandbox } = await attached(a, network, "c");
  const { global } = a.stores;
  const transact = global.transact.bind(global);
  let removal: Promise<void> | undefined;
  global.transact = async (transaction) => {
    // Its turn comes after the detachment and before the withdrawal of the way out.
    removal ??= a.libnetwork.deleteSandbox(sandbox);
    return transact(transaction);
  };
  await a.libnetwork.detach(endpoint, sandbox);
  await removal;
  expect(a.libnetwork.endpoints().map(({ id }) => id)).toEqual([endpoint]);
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

it("a way out that was removed for an attachment which then failed is given again", async () => {
  const a = await node(new MemoryStore(), "172.17.0.3");
  const far = await a.libnetwork.createNetwork({ name: "far", driver: "segment" });
  const web = await a.libnetwork.createNetwork({ name: "web", driver: "bridge" });
  const { sandbox } = await attached(a, far.id, "c");
  const { id } = await a.libnetwork.createEndpoint(web.id, { name: "c" });
  const waysOut = () => a.libnetwork.endpoints().filter(({ network }) => network === "docker_gwbridge");
  expect(waysOut()).toMatchObject([{ sandboxId: sandbox }]);
  const { key } = a.libnetwork.sandbox(sandbox);
  const link = `veth${waysOut()[0]?.id.slice(0, 11)}`;
  a.kernel.fault = (operation) => {
    if (operation.op !== "link.delete" || operation.name !== link) return;
    a.kernel.fault = () => undefined;
    void a.kernel.teardown([operation]);
    throw new Error("it is gone, and the answer is lost");
  };
  await expect(a.libnetwork.attach(id, sandbox)).rejects.toThrow();
  expect(a.libnetwork.endpoint(id).sandboxId).toBeUndefined();
  expect(waysOut()).toMatchObject([{ sandboxId: sandbox }]);
  expect(a.kernel.routes(key)["0.0.0.0/0"]).toMatch(/^172\.18\.0\.1 eth/);
});

it.each(["detach", "unpublish -f"] as const)(
  "a way out goes with its reason, also where %s fails in the kernel",
  async (what) => {
    const a = await node(new MemoryStore(), "172.17.0.3");
    const far = await a.libnetwork.createNetwork({ name: "far", driver: "segment" });
    const { endpoint, sandbox } = await attached(a, far.id, "c");
    a.kernel.fault = (operation) => {
      if (operation.op === "link.delete" || operation.op === "namespace.delete") {
        a.kernel.fault = () => undefined;
        throw new Error("lost");
      }
    };
    const { libnetwork } = a;
    const work =
      what === "detach" ? libnetwork.detach(endpoint, sandbox) : libnetwork.deleteEndpoint(endpoint, { force: true });
    await expect(work).rejects.toThrow();
    expect(libnetwork.sandbox(sandbox).endpoints).toEqual([]);
    expect(libnetwork.endpoints().filter(({ network }) => network === "docker_gwbridge")).toEqual([]);
  },
);

it("the default route goes to the highest priority, and back when it leaves", async () => {
  const a = await node(new MemoryStore(), undefined);
  const networks = [];
  for (const name of ["one", "two", "three"]) {
    networks.push(await a.libnetwork.createNetwork({ name, driver: "bridge" }));
  }
  const { id: sandbox, key } = await a.libnetwork.createSandbox({ containerId: "c" });
  const route = () => a.kernel.routes(key)["0.0.0.0/0"]?.split(" ").at(-1);
  const endpoints: string[] = [];
  for (const [n, network] of networks.entries()) {
    const { id } = await a.libnetwork.createEndpoint(network.id, { name: "c" });
    endpoints.push(id);
    await a.libnetwork.attach(id, sandbox, { gatewayPriority: [0, 5, 5][n] ?? 0 });
    expect(route()).toBe(["eth0", "eth1", "eth1"][n]);
  }
  // A start finds it where it belongs, though the endpoint that carries it was not the first; and puts it there.
  await a.reopen();
  expect(route()).toBe("eth1");
  await a.kernel.teardown([
    {
      op: "route.delete",
      namespace: key,
      route: { to: parsePrefix("0.0.0.0/0"), via: parseIp("172.18.0.1"), device: "eth1" },
    },
  ]);
  await a.kernel.apply([
    {
      op: "route.add",
      namespace: key,
      route: { to: parsePrefix("0.0.0.0/0"), via: parseIp("172.17.0.1"), device: "eth0" },
    },
  ]);
  await a.reopen();
  expect(route()).toBe("eth1");
  expect(a.naming.running.has(sandbox)).toBe(true);
  expect(a.lines.filter(({ level }) => level === "error")).toEqual([]);
  await a.libnetwork.detach(endpoints[1] ?? "", sandbox);
  expect(route()).toBe("eth2");
  await a.libnetwork.detach(endpoints[2] ?? "", sandbox);
  expect(route()).toBe("eth0");
});

it("a table of a network that has no endpoint here goes at the start", async () => {
  const global = new MemoryStore();
  const a = await openController({
    stores: { local: new MemoryStore(), global },
    drivers: [overlayDriver(), bridgeDriver()],
    place: { vtep: parseIp("172.17.0.3") },
  });
  opened.push(a);
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
