import { afterEach, describe, expect, it } from "vitest";
import { eventually } from "../../test/fakes/eventually.ts";
import { attached, closeNodes, node } from "../../test/fakes/segment-nodes.ts";
import { parseIp } from "../net/ip.ts";
import { parsePrefix } from "../net/prefix.ts";
import { MemoryStore } from "../store/memory/memory-store.ts";

/** How sandboxes get out: the endpoint on the gateway network, and which network has the default route. */

afterEach(closeNodes);

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

describe("a store that fails while a way out goes", () => {
  /** Attached, with a way out whose removal the local store refuses so many times. */
  const prepare = async (times: number) => {
    const a = await node(new MemoryStore(), "172.17.0.3", { repairEvery: 20 });
    const { id: network } = await a.libnetwork.createNetwork({ name: "multihost", driver: "segment" });
    const { endpoint, sandbox } = await attached(a, network, "c");
    let left = times;
    a.stores.local.fault = (point) => {
      if (point === "before-transact" && left-- > 0) throw new Error("disk I/O error");
    };
    const names = () => a.libnetwork.endpoints().map(({ name }) => name);
    return { a, endpoint, sandbox, names };
  };

  it("is asked once more by the operation itself, which says that it failed", async () => {
    const { a, endpoint, sandbox, names } = await prepare(1);
    await expect(a.libnetwork.detach(endpoint, sandbox)).rejects.toMatchObject({ code: "store-unavailable" });
    expect(names()).toEqual(["c"]);
  });

  it("is asked again when the daemon next looks", async () => {
    const { a, endpoint, sandbox, names } = await prepare(5);
    await expect(a.libnetwork.deleteEndpoint(endpoint, { force: true })).rejects.toMatchObject({
      code: "store-unavailable",
    });
    await eventually("no way out is left", () => names().length === 0);
    expect(a.libnetwork.sandbox(sandbox).endpoints).toEqual([]);
  });
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
