import { describe, expect, it } from "vitest";
import { openController } from "../../test/fakes/open-controller.ts";
import { option } from "../drivers/options.ts";
import { NetworkError } from "../errors.ts";
import { parseIp } from "../net/ip.ts";
import { type InterfaceAddress, parsePrefix } from "../net/prefix.ts";
import { MemoryStore } from "../store/memory/memory-store.ts";
import type { CreateNetwork } from "./model.ts";

const ip = parseIp;
const pool = parsePrefix;
const absent = "f".repeat(64);

/** The refusal of a call: kind, code and text. */
const refusal = async (call: Promise<unknown> | (() => Promise<unknown>)): Promise<NetworkError> => {
  const error = await (typeof call === "function" ? call() : call).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof NetworkError)) throw new Error(`not refused: ${error}`);
  return error;
};

const filled = async () => {
  const opened = await openController();
  const { libnetwork } = opened;
  const network = await libnetwork.createNetwork({ name: "net" });
  const endpoint = await libnetwork.createEndpoint(network.id, { name: "svc" });
  const sandbox = await libnetwork.createSandbox({ containerId: "c1" });
  return { ...opened, opened, libnetwork, kernel: opened.kernel, network, endpoint, sandbox };
};

it("an answer waits until what was written is on the disk, and the kernel does not", async () => {
  const local = new MemoryStore();
  const { libnetwork, kernel } = await openController({ stores: { local } });
  const network = await libnetwork.createNetwork({ name: "net" });
  const disk = Promise.withResolvers<void>();
  Object.assign(local, { synced: () => disk.promise });
  let answered = 0;
  const answers = [
    libnetwork.createSandbox({ containerId: "c1" }),
    libnetwork.createEndpoint(network.id, { name: "svc" }),
    libnetwork.deleteNetwork(absent).catch(() => undefined),
  ].map((answer) => answer.then(() => answered++));
  while (kernel.namespaces.size < 2 || libnetwork.endpoints().length < 1) await new Promise(setImmediate);
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
  expect(answered).toBe(0);
  disk.resolve();
  await Promise.all(answers);
});

describe("the life of a service", () => {
  it("goes from network to sandbox and back, leaving nothing", async () => {
    const { libnetwork, opened, kernel, network, endpoint, sandbox } = await filled();
    expect(network).toMatchObject({ driver: "bridge", scope: "local", internal: false, ipv6: false });
    expect(network.subnets).toEqual([{ pool: "172.17.0.0/16", gateway: "172.17.0.1/16" }]);
    expect(endpoint).toMatchObject({ addresses: ["172.17.0.2/16"], mac: "02:42:ac:11:00:02", network: "net" });
    expect(endpoint).not.toHaveProperty("sandboxId");
    expect(sandbox).toMatchObject({ containerId: "c1", key: `/run/netns/${sandbox.id.slice(0, 12)}`, endpoints: [] });

    expect(await libnetwork.attach(endpoint.id, sandbox.id, { aliases: ["db", "c2:web"] })).toMatchObject({
      endpoints: [endpoint.id],
    });
    expect(libnetwork.endpoint(endpoint.id)).toMatchObject({
      sandboxId: sandbox.id,
      containerId: "c1",
      interfaceName: "eth0",
    });
    expect(kernel.devices(sandbox.key)).toEqual(["eth0"]);
    expect(kernel.addresses(sandbox.key, "eth0")).toEqual(["172.17.0.2/16"]);
    expect(kernel.routes(sandbox.key)).toEqual({ "0.0.0.0/0": "172.17.0.1 eth0" });
    expect(opened.naming.running.has(sandbox.id)).toBe(true);

    await libnetwork.detach(endpoint.id, sandbox.id);
    expect(libnetwork.endpoint(endpoint.id)).toEqual(endpoint);
    expect(kernel.devices(sandbox.key)).toEqual([]);
    await libnetwork.deleteEndpoint(endpoint.id);
    await libnetwork.deleteSandbox(sandbox.id);
    await libnetwork.deleteNetwork(network.id);
    expect(await opened.keys()).toEqual(["local/pools"]);
    expect([...kernel.links.keys(), ...kernel.namespaces, ...opened.naming.made]).toEqual(["host"]);
  });

  it("gives the address, the name and the pool to the next", async () => {
    const { libnetwork, network, endpoint } = await filled();
    await libnetwork.deleteEndpoint(endpoint.id);
    expect(await libnetwork.createEndpoint(network.id, { name: "svc" })).toMatchObject({
      addresses: ["172.17.0.2/16"],
    });
    const second = await libnetwork.createNetwork({ name: "second" });
    expect(second.subnets[0]?.pool).toBe("172.18.0.0/16");
    await libnetwork.deleteNetwork(second.id);
    expect((await libnetwork.createNetwork({ name: "second" })).subnets[0]?.pool).toBe("172.18.0.0/16");
  });

  it("answers lookups of what is not there with the original's words", async () => {
    const { libnetwork, network, sandbox, endpoint } = await filled();
    expect(() => libnetwork.network(absent)).toThrow("Resource not found: Network");
    expect(() => libnetwork.endpoints(absent)).toThrow("Resource not found: Network");
    expect(() => libnetwork.endpoint(absent)).toThrow("Resource not found: Endpoint");
    expect(() => libnetwork.sandbox(absent)).toThrow("Resource not found: Sandbox");
    expect(() => libnetwork.sandbox("")).toThrow("invalid id: ");
    const calls: [() => Promise<unknown>, string][] = [
      [() => libnetwork.deleteNetwork(absent), "Network"],
      [() => libnetwork.createEndpoint(absent, { name: "x" }), "Network"],
      [() => libnetwork.deleteEndpoint(absent), "Endpoint"],
      [() => libnetwork.attach(absent, sandbox.id), "Endpoint"],
      [() => libnetwork.attach(endpoint.id, absent), "Sandbox"],
      [() => libnetwork.detach(absent, sandbox.id), "Endpoint"],
      [() => libnetwork.detach(endpoint.id, absent), "Sandbox"],
      [() => libnetwork.deleteSandbox(absent), "Sandbox"],
    ];
    for (const [call, what] of calls) {
      expect(await refusal(call)).toMatchObject({ status: 404, message: `Resource not found: ${what}` });
    }
    expect(libnetwork.endpoints(network.id)).toEqual(libnetwork.endpoints());
  });
});

describe("names that are taken", () => {
  it("refuses a second network, endpoint or container of one name", async () => {
    const { libnetwork, network, endpoint, sandbox } = await filled();
    expect(await refusal(libnetwork.createNetwork({ name: "net" }))).toMatchObject({
      status: 403,
      message: "network with name net already exists",
    });
    expect(await refusal(libnetwork.createNetwork({ name: "other", id: network.id }))).toMatchObject({
      status: 403,
      message: `network with name ${network.id} already exists`,
    });
    expect(await refusal(libnetwork.createEndpoint(network.id, { name: "svc" }))).toMatchObject({
      status: 403,
      message: "endpoint with name svc already exists in network net",
    });
    expect(await refusal(libnetwork.createSandbox({ containerId: "c1" }))).toMatchObject({
      status: 403,
      message: `container c1 is already present in sandbox ${sandbox.id}`,
    });
    const other = await libnetwork.createNetwork({ name: "other" });
    expect(await libnetwork.createEndpoint(other.id, { name: "svc" })).not.toMatchObject({ id: endpoint.id });
  });

  it("refuses two networks on one bridge", async () => {
    const { libnetwork } = await openController();
    const options = { [option.bridgeName]: "br-own" };
    await libnetwork.createNetwork({ name: "a", options });
    expect(await refusal(libnetwork.createNetwork({ name: "b", options }))).toMatchObject({
      status: 403,
      message: "bridge br-own belongs to network a already",
    });
  });

  it("refuses a bridge that is somebody else's, and leaves it and no record", async () => {
    const { libnetwork, kernel, keys } = await openController().then((o) => ({
      ...o,
      libnetwork: o.libnetwork,
      kernel: o.kernel,
      keys: () => o.keys(),
    }));
    kernel.links.set("br-own", { alias: undefined, kind: "bridge" });
    const call = () => libnetwork.createNetwork({ name: "a", options: { [option.bridgeName]: "br-own" } });
    expect((await refusal(call)).code).toBe("foreign-link");
    expect(await keys()).toEqual(["local/pools"]);
    expect(kernel.links.has("br-own")).toBe(true);
    kernel.links.clear();
    await call();
  });
});

describe("what is in use", () => {
  it("cannot be removed", async () => {
    const { libnetwork, network, endpoint, sandbox } = await filled();
    expect(await refusal(libnetwork.deleteNetwork(network.id))).toMatchObject({
      status: 403,
      message: `network net id ${network.id} has active endpoints`,
      hint: "unpublish these first: svc",
    });
    await libnetwork.attach(endpoint.id, sandbox.id);
    expect(await refusal(libnetwork.deleteEndpoint(endpoint.id))).toMatchObject({
      status: 403,
      message: `endpoint with name svc id ${endpoint.id} has active containers`,
    });
    expect(libnetwork.endpoint(endpoint.id).sandboxId).toBe(sandbox.id);
  });

  it("is removed by force, interface and all", async () => {
    const { libnetwork, kernel, network, endpoint, sandbox } = await filled();
    await libnetwork.attach(endpoint.id, sandbox.id);
    await libnetwork.deleteEndpoint(endpoint.id, { force: true });
    expect(kernel.devices(sandbox.key)).toEqual([]);
    expect(libnetwork.sandbox(sandbox.id).endpoints).toEqual([]);
    await libnetwork.deleteNetwork(network.id);
  });

  it("keeps others from its sandbox while it is removed, also when it was attached only a moment before", async () => {
    const { libnetwork, kernel, network, endpoint, sandbox } = await filled();
    const other = await libnetwork.createEndpoint(network.id, { name: "other" });
    const [began, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const teardown = kernel.teardown.bind(kernel);
    kernel.teardown = async (plan) => {
      began.resolve();
      await go.promise;
      await teardown(plan);
    };
    const first = [
      libnetwork.attach(endpoint.id, sandbox.id),
      libnetwork.deleteEndpoint(endpoint.id, { force: true }),
    ] as const;
    await began.promise;
    // Its eth0 is still there, and no record of it any more.
    const second = libnetwork.attach(other.id, sandbox.id);
    await new Promise((resolve) => setImmediate(resolve));
    go.resolve();
    await Promise.all([...first, second]);
    expect(kernel.devices(sandbox.key)).toEqual(["eth0"]);
    expect(libnetwork.endpoint(other.id).interfaceName).toBe("eth0");
  });

  it("goes with its sandbox", async () => {
    const { libnetwork, kernel, opened, network, endpoint, sandbox } = await filled();
    const free = await libnetwork.createEndpoint(network.id, { name: "free" });
    await libnetwork.attach(endpoint.id, sandbox.id);
    await libnetwork.deleteSandbox(sandbox.id);
    expect(libnetwork.endpoints().map(({ id }) => id)).toEqual([free.id]);
    expect((await opened.keys()).filter((key) => key.includes(endpoint.id) || key.includes("svc"))).toEqual([]);
    expect(kernel.namespaces).toEqual(new Set(["host"]));
    expect(kernel.marked().has(endpoint.id)).toBe(false);
    expect(opened.naming.made.size + opened.naming.running.size).toBe(0);
  });
});

describe("attaching", () => {
  it("refuses what the original refuses, in its words", async () => {
    const { libnetwork, endpoint, sandbox } = await filled();
    const other = await libnetwork.createSandbox({ containerId: "c2" });
    expect(await refusal(libnetwork.detach(endpoint.id, sandbox.id))).toMatchObject({
      status: 403,
      message: "cannot leave endpoint with no attached sandbox",
    });
    await libnetwork.attach(endpoint.id, sandbox.id);
    for (const { id } of [sandbox, other]) {
      expect(await refusal(libnetwork.attach(endpoint.id, id))).toMatchObject({
        status: 403,
        message: "another container is attached to the same network endpoint",
      });
    }
    expect(await refusal(libnetwork.detach(endpoint.id, other.id))).toMatchObject({
      status: 403,
      message: `unexpected sandbox ID in leave request. Expected ${sandbox.id}. Got ${other.id}`,
    });
  });

  it("refuses a bad alias", async () => {
    const { libnetwork, endpoint, sandbox } = await filled();
    expect(await refusal(libnetwork.attach(endpoint.id, sandbox.id, { aliases: ["a:b:c"] }))).toMatchObject({
      status: 500,
      message: "bad format for alias: a:b:c",
    });
    for (const alias of ["", ":", "a:", ":b", "a b", "-a"]) {
      expect((await refusal(libnetwork.attach(endpoint.id, sandbox.id, { aliases: [alias] }))).code).toBe(
        "invalid-name",
      );
    }
    expect(libnetwork.endpoint(endpoint.id)).toEqual(endpoint);
  });

  it("40, moby 20067: names interfaces eth0, eth1 and uses a freed number again", async () => {
    const { libnetwork, kernel, endpoint, sandbox } = await filled();
    const more = [];
    for (const name of ["n1", "n2", "n3"]) {
      const { id } = await libnetwork.createNetwork({ name });
      more.push(await libnetwork.createEndpoint(id, { name: "svc" }));
    }
    const [one, two, three] = more as [typeof endpoint, typeof endpoint, typeof endpoint];
    const nameOf = (id: string) => libnetwork.endpoint(id).interfaceName;
    for (const { id } of [endpoint, one, two]) await libnetwork.attach(id, sandbox.id);
    expect([endpoint, one, two].map(({ id }) => nameOf(id))).toEqual(["eth0", "eth1", "eth2"]);
    await libnetwork.detach(one.id, sandbox.id);
    await libnetwork.attach(three.id, sandbox.id);
    expect(nameOf(three.id)).toBe("eth1");
    await libnetwork.attach(one.id, sandbox.id);
    expect(nameOf(one.id)).toBe("eth3");
    expect([...kernel.devices(sandbox.key)].sort()).toEqual(["eth0", "eth1", "eth2", "eth3"]);
    expect(libnetwork.sandbox(sandbox.id).endpoints).toEqual([endpoint.id, two.id, three.id, one.id]);
  });

  it("40, moby 25181: keeps the default route with the first network that has a way out", async () => {
    const opened = await openController();
    const { libnetwork, kernel } = opened;
    const { id: sandbox, key } = await libnetwork.createSandbox({ containerId: "c1" });
    const make = async (request: CreateNetwork) => {
      const { id } = await libnetwork.createNetwork(request);
      return (await libnetwork.createEndpoint(id, { name: "svc" })).id;
    };
    const inner = await make({ name: "inner", internal: true });
    const a = await make({ name: "a" });
    const b = await make({ name: "b", ipv6: true });
    const route = () => kernel.routes(key);
    const viaA = { "0.0.0.0/0": "172.18.0.1 eth1" };
    await libnetwork.attach(inner, sandbox);
    expect(route()).toEqual({});
    await libnetwork.attach(a, sandbox);
    expect(route()).toEqual(viaA);
    await libnetwork.attach(b, sandbox);
    expect(route()).toEqual({ ...viaA, "::/0": "fd00:1:2::1 eth2" });
    await libnetwork.detach(inner, sandbox);
    await libnetwork.detach(a, sandbox);
    expect(route()).toEqual({ "0.0.0.0/0": "172.19.0.1 eth2", "::/0": "fd00:1:2::1 eth2" });
    await libnetwork.attach(a, sandbox);
    expect(route()).toEqual({ "0.0.0.0/0": "172.19.0.1 eth2", "::/0": "fd00:1:2::1 eth2" });
    await libnetwork.deleteEndpoint(b, { force: true });
    expect(route()).toEqual({ "0.0.0.0/0": "172.18.0.1 eth0" });
    await libnetwork.detach(a, sandbox);
    expect(route()).toEqual({});
  });
});

describe("networks of which there is one", () => {
  it.each(["host", "null"])("%s: a second is refused, the first stays", async (driver) => {
    const { libnetwork } = await openController();
    const { id } = await libnetwork.createNetwork({ name: "one", driver });
    expect(await refusal(libnetwork.createNetwork({ name: "two", driver }))).toMatchObject({
      status: 403,
      message: `only one instance of "${driver}" network is allowed`,
    });
    expect(await refusal(libnetwork.deleteNetwork(id))).toMatchObject({
      status: 403,
      message: `network of type "${driver}" cannot be deleted`,
    });
  });

  it("host is for sandboxes on the host's stack and no other network is", async () => {
    const { libnetwork, kernel, endpoint, sandbox } = await filled();
    const { id } = await libnetwork.createNetwork({ name: "host", driver: "host" });
    const onHost = await libnetwork.createEndpoint(id, { name: "svc" });
    expect(onHost.addresses).toEqual([]);
    expect((await refusal(libnetwork.createEndpoint(id, { name: "x", addresses: [ip("10.0.0.1")] }))).status).toBe(400);
    const first = await libnetwork.createSandbox({ containerId: "h1", useDefaultSandbox: true });
    const second = await libnetwork.createSandbox({ containerId: "h2", useDefaultSandbox: true });
    expect([first.key, second.key]).toEqual(["/run/netns/default", "/run/netns/default"]);
    expect((await refusal(libnetwork.attach(endpoint.id, first.id))).message).toBe(
      "container sharing the host's network stack can join only the host network",
    );
    expect((await refusal(libnetwork.attach(onHost.id, sandbox.id))).message).toBe(
      "only a container that shares the host's network stack can join the host network",
    );
    await libnetwork.attach(onHost.id, first.id);
    await libnetwork.deleteSandbox(first.id);
    expect(kernel.namespaces.has("/run/netns/default")).toBe(true);
    await libnetwork.deleteSandbox(second.id);
    expect(kernel.namespaces.has("/run/netns/default")).toBe(false);
    expect(kernel.namespaces.has("host")).toBe(true);
  });

  it("removes the path of the host's stack with the last of its sandboxes, also side by side", async () => {
    const { libnetwork, kernel } = await openController();
    const make = (n: number) => libnetwork.createSandbox({ containerId: `h${n}`, useDefaultSandbox: true });
    const made = await Promise.all([1, 2, 3].map(make));
    await Promise.all(made.map(({ id }) => libnetwork.deleteSandbox(id)));
    expect(kernel.namespaces).toEqual(new Set(["host"]));
    const [last] = await Promise.all([make(4)]);
    await Promise.all([libnetwork.deleteSandbox(last?.id ?? ""), make(5)]);
    expect(kernel.namespaces.has("/run/netns/default")).toBe(true);
  });
});

describe("requests that make no sense", () => {
  const refused: [string, CreateNetwork, number, string | RegExp][] = [
    [
      "driver",
      { name: "n", driver: "weave" },
      404,
      "could not find plugin weave in v1 plugin registry: plugin not found",
    ],
    ["empty name", { name: "" }, 400, "invalid name: "],
    ["dot in a name", { name: "a.b" }, 400, "invalid name: a.b"],
    ["long name", { name: "a".repeat(64) }, 400, `invalid name: ${"a".repeat(64)}`],
    ["id", { name: "n", id: "abc" }, 400, 'invalid id: "abc"'],
    ["option", { name: "n", options: { color: "red" } }, 400, 'unknown option "color" for driver bridge'],
    [
      "option of a plain driver",
      { name: "n", driver: "test", options: { mtu: "1" } },
      400,
      'unknown option "mtu" for driver test',
    ],
    ["mtu", { name: "n", options: { [option.mtu]: "67" } }, 400, /is not between 68 and 65535$/],
    ["boolean", { name: "n", options: { [option.icc]: "yes" } }, 400, /"yes" is not true or false$/],
    ["bridge name", { name: "n", options: { [option.bridgeName]: "../x" } }, 400, /is not an interface name$/],
    [
      "overlap",
      { name: "n", subnets: [{ pool: pool("10.1.0.0/16") }] },
      403,
      "Pool overlaps with other one on this address space",
    ],
    [
      "overlap of its own",
      { name: "n", subnets: [{ pool: pool("10.2.0.0/16") }, { pool: pool("10.2.3.0/24") }] },
      403,
      "Pool overlaps with other one on this address space",
    ],
    ["short pool", { name: "n", subnets: [{ pool: pool("8.0.0.0/7") }] }, 400, /length between \/8 and \/30$/],
    [
      "range elsewhere",
      { name: "n", subnets: [{ pool: pool("10.2.0.0/24"), range: pool("10.3.0.0/25") }] },
      400,
      /is not a part of subnet 10.2.0.0\/24$/,
    ],
    ["range alone", { name: "n", subnets: [{ range: pool("10.3.0.0/25") }] }, 400, /needs the subnet/],
    [
      "gateway elsewhere",
      { name: "n", subnets: [{ pool: pool("10.2.0.0/24"), gateway: ip("10.3.0.1") }] },
      400,
      "invalid address: 10.3.0.1 is not in subnet 10.2.0.0/24",
    ],
    [
      "gateway broadcast",
      { name: "n", subnets: [{ pool: pool("10.2.0.0/24"), gateway: ip("10.2.0.255") }] },
      400,
      /network or broadcast address/,
    ],
    [
      "families",
      { name: "n", subnets: [{ pool: pool("10.2.0.0/24"), gateway: ip("fd00::1") }] },
      400,
      /not of one address family$/,
    ],
    [
      "auxiliary elsewhere",
      { name: "n", subnets: [{ pool: pool("10.2.0.0/24"), auxiliary: { a: ip("10.3.0.1") } }] },
      400,
      "invalid auxiliary address: a=10.3.0.1 is in no subnet of the network",
    ],
    [
      "auxiliary gateway",
      {
        name: "n",
        subnets: [{ pool: pool("10.2.0.0/24"), gateway: ip("10.2.0.1"), auxiliary: { a: ip("10.2.0.1") } }],
      },
      400,
      "invalid auxiliary address: a=10.2.0.1 is the gateway",
    ],
  ];
  it.each(refused)("network: %s", async (_what, request, status, message) => {
    const opened = await openController();
    await opened.libnetwork.createNetwork({ name: "first", subnets: [{ pool: pool("10.1.2.0/24") }] });
    const before = await opened.keys();
    const error = await refusal(() => opened.libnetwork.createNetwork(request));
    expect(error.status).toBe(status);
    if (typeof message === "string") expect(error.message).toBe(message);
    else expect(error.message).toMatch(message);
    expect(await opened.keys()).toEqual(before);
  });

  it("endpoint: addresses in use, outside, reserved; names; aliases", async () => {
    const opened = await openController();
    const { libnetwork } = opened;
    const { id } = await libnetwork.createNetwork({
      name: "n",
      subnets: [{ pool: pool("10.1.0.0/24"), gateway: ip("10.1.0.9"), auxiliary: { router: ip("10.1.0.2") } }],
    });
    await libnetwork.createEndpoint(id, { name: "a", addresses: [ip("10.1.0.50")] });
    const before = await opened.keys();
    const expectRefused = async (addresses: string[], status: number, message: string) => {
      const call = () => libnetwork.createEndpoint(id, { name: "x", addresses: addresses.map((text) => ip(text)) });
      expect(await refusal(call)).toMatchObject({ status, message });
    };
    for (const taken of ["10.1.0.50", "10.1.0.9", "10.1.0.2"]) {
      await expectRefused([taken], 403, "Address already in use");
    }
    await expectRefused(["10.2.0.1"], 400, "invalid address: 10.2.0.1 is in no subnet of network n");
    await expectRefused(["fd00::1"], 400, "invalid address: fd00::1 is in no subnet of network n");
    await expectRefused(
      ["10.1.0.0"],
      400,
      "invalid address: 10.1.0.0 is the network or broadcast address of 10.1.0.0/24",
    );
    await expectRefused(["10.1.0.3", "10.1.0.4"], 400, "invalid address: more than one IPv4 address asked for");
    for (const name of ["", ".", "a..b", "a b", "-a", "a".repeat(64), "a\n"]) {
      expect(await refusal(() => libnetwork.createEndpoint(id, { name }))).toMatchObject({
        status: 400,
        code: "invalid-name",
      });
      expect((await refusal(() => libnetwork.createEndpoint(id, { name: "x", aliases: [name] }))).status).toBe(400);
    }
    expect(await opened.keys()).toEqual(before);
    const first = await libnetwork.createEndpoint(id, { name: "first" });
    const second = await libnetwork.createEndpoint(id, { name: "second" });
    expect([first.addresses, second.addresses]).toEqual([["10.1.0.1/24"], ["10.1.0.3/24"]]);
  });

  it.each(["", "/", "a b", "..", "a".repeat(129)])("sandbox: container %j", async (containerId) => {
    const { libnetwork } = await openController();
    expect(await refusal(() => libnetwork.createSandbox({ containerId }))).toMatchObject({
      status: 400,
      message: expect.stringMatching(/^invalid container ID/),
    });
  });
});

describe("records past the bounds of their schema", () => {
  it("are refused, not written: nothing would read them again, and their names and addresses were gone", async () => {
    const { libnetwork, opened, network, endpoint, sandbox } = await filled();
    const many = Array.from({ length: 257 }, (_, n) => `alias${n}`);
    const before = await opened.keys();
    for (const call of [
      () => libnetwork.createEndpoint(network.id, { name: "many", aliases: many }),
      () => libnetwork.attach(endpoint.id, sandbox.id, { aliases: many }),
      () => libnetwork.createSandbox({ containerId: "c2", dns: many.map((_, n) => ip(`10.0.${n >> 8}.${n & 255}`)) }),
      () => libnetwork.createNetwork({ name: "long", labels: { a: "v".repeat(5000) } }),
    ]) {
      expect(await refusal(call)).toMatchObject({ kind: "bad-request", code: "invalid-record" });
    }
    expect(await opened.keys()).toEqual(before);
    expect((await libnetwork.createEndpoint(network.id, { name: "many" })).addresses).toEqual(["172.17.0.3/16"]);
  });
});

describe("address spaces", () => {
  it("hand out addresses from the range only, the gateway is the first of the subnet", async () => {
    const { libnetwork } = await openController();
    const { id, subnets } = await libnetwork.createNetwork({
      name: "n",
      subnets: [{ pool: pool("10.1.0.0/24"), range: pool("10.1.0.128/30"), auxiliary: { a: ip("10.1.0.129") } }],
    });
    expect(subnets[0]?.gateway).toBe("10.1.0.1/24");
    const names = ["a", "b", "c"];
    for (const name of names) await libnetwork.createEndpoint(id, { name });
    expect(libnetwork.endpoints(id).flatMap(({ addresses }) => addresses)).toEqual([
      "10.1.0.128/24",
      "10.1.0.130/24",
      "10.1.0.131/24",
    ]);
    expect(await refusal(() => libnetwork.createEndpoint(id, { name: "x" }))).toMatchObject({
      status: 403,
      code: "addresses-exhausted",
    });
    await libnetwork.createEndpoint(id, { name: "d", addresses: [ip("10.1.0.7")] });
  });

  it("take from the next subnet when one is full", async () => {
    const { libnetwork } = await openController();
    const { id } = await libnetwork.createNetwork({
      name: "n",
      subnets: [{ pool: pool("10.1.0.0/30") }, { pool: pool("10.2.0.0/30") }],
    });
    await libnetwork.createEndpoint(id, { name: "a" });
    await libnetwork.createEndpoint(id, { name: "b" });
    expect(libnetwork.endpoints(id).flatMap(({ addresses }) => addresses)).toEqual(["10.1.0.2/30", "10.2.0.2/30"]);
    expect((await refusal(() => libnetwork.createEndpoint(id, { name: "c" }))).code).toBe("addresses-exhausted");
  });

  it("are apart: local and global pools may be equal", async () => {
    const { libnetwork } = await openController();
    const subnets = [{ pool: pool("10.0.0.0/24") }];
    await libnetwork.createNetwork({ name: "a", subnets });
    await libnetwork.createNetwork({ name: "b", driver: "test", subnets });
    expect((await libnetwork.createNetwork({ name: "c", driver: "test" })).subnets[0]?.pool).toBe("10.0.1.0/24");
  });

  it("refuse a subnet that another link of the host has, or a part of it; a part of a larger one is given", async () => {
    const { libnetwork, kernel, stores } = await openController();
    await kernel.apply([
      { op: "link.add", namespace: "host", link: { kind: "bridge", name: "lan0" } },
      { op: "address.add", namespace: "host", device: "lan0", address: "10.1.2.3/24" as InterfaceAddress },
    ]);
    const create = (name: string, pool: string) =>
      libnetwork.createNetwork({ name, subnets: [{ pool: parsePrefix(pool) }] });
    for (const pool of ["10.1.2.0/24", "10.1.0.0/16"]) {
      await expect(create("web", pool)).rejects.toMatchObject({
        code: "pool-on-host",
        message: `subnet ${pool} is on this host already: lan0 has 10.1.2.3/24`,
      });
    }
    expect((await stores.local.list("local/")).map(({ key }) => key)).toEqual([]);
    await create("part", "10.1.2.128/25");
    // Its own bridge is none of others'.
    await create("web", "10.1.3.0/24");
  });

  it("give both families to a network with IPv6, and avoid the host's routes", async () => {
    const { libnetwork } = await openController({ avoid: async () => [pool("172.17.0.0/17"), pool("172.18.4.0/24")] });
    const { id, subnets } = await libnetwork.createNetwork({ name: "n", ipv6: true });
    expect(subnets).toEqual([
      { pool: "172.19.0.0/16", gateway: "172.19.0.1/16" },
      { pool: "fd00:1:2::/64", gateway: "fd00:1:2::1/64" },
    ]);
    expect((await libnetwork.createEndpoint(id, { name: "svc" })).addresses).toEqual([
      "172.19.0.2/16",
      "fd00:1:2::2/64",
    ]);
  });
});

describe("the default network", () => {
  it("is on docker0", async () => {
    const { libnetwork, kernel } = await openController({ defaultNetwork: "bridge" });
    expect(libnetwork.networks()).toMatchObject([{ name: "bridge", options: { [option.bridgeName]: "docker0" } }]);
    expect([...kernel.links.keys()]).toEqual(["docker0"]);
  });

  it("is made once, and again on docker0 of our own", async () => {
    const opened = await openController({ defaultNetwork: "bridge" });
    const before = opened.libnetwork.networks();
    expect((await opened.reopen()).networks()).toEqual(before);
    await opened.libnetwork.deleteNetwork(before[0]?.id ?? "");
    expect((await opened.reopen()).networks()).toMatchObject([{ options: { [option.bridgeName]: "docker0" } }]);
  });

  it("has a bridge of its own name where docker0 is another's", async () => {
    for (const alias of [undefined, "dnet:00000000:x"]) {
      const opened = await openController();
      opened.kernel.links.set("docker0", { alias, kind: "bridge" });
      const other = await openController({ kernel: opened.kernel, defaultNetwork: "bridge" });
      const [network] = other.libnetwork.networks();
      expect(network?.options).toEqual({});
      expect([...opened.kernel.links.keys()]).toEqual(["docker0", `br-${network?.id.slice(0, 12)}`]);
      expect(other.lines.map(({ message }) => message)).toContainEqual(expect.stringContaining("docker0 belongs to"));
    }
  });

  it("is logged and left out where it cannot be made", async () => {
    const opened = await openController({ defaultNetwork: "bridge", defaultDriver: "weave" });
    expect(opened.libnetwork.networks()).toEqual([]);
    expect(opened.lines).toMatchObject([{ level: "warning" }]);
  });
});

describe("after a start", () => {
  it("finds what was there, adopts it and wires it again", async () => {
    const { opened, libnetwork, kernel, endpoint, sandbox } = await filled();
    await libnetwork.attach(endpoint.id, sandbox.id, { aliases: ["db"] });
    const before = { links: new Map(kernel.links), routes: kernel.routes(sandbox.key) };
    const again = await opened.reopen();
    expect(again.endpoint(endpoint.id)).toEqual(libnetwork.endpoint(endpoint.id));
    expect({ links: new Map(kernel.links), routes: kernel.routes(sandbox.key) }).toEqual(before);
    expect(opened.naming.running.has(sandbox.id)).toBe(true);
    kernel.links.clear();
    await opened.reopen();
    expect(new Map(kernel.links)).toEqual(before.links);
  });

  it("removes the records of sandboxes that a reboot ended, and makes the networks", async () => {
    const { opened, libnetwork, kernel, network, endpoint, sandbox } = await filled();
    await libnetwork.attach(endpoint.id, sandbox.id);
    const free = await libnetwork.createEndpoint(network.id, { name: "free" });
    kernel.reboot();
    const again = await opened.reopen();
    expect(again.sandboxes()).toEqual([]);
    expect(again.endpoints().map(({ id }) => id)).toEqual([free.id]);
    expect([...kernel.links.keys()]).toEqual([`br-${network.id.slice(0, 12)}`]);
    expect(opened.naming.made.size).toBe(0);
    await again.createSandbox({ containerId: "c1" });
  });

  it("removes links that carry our mark and no record knows, and no other", async () => {
    const { opened, kernel, network } = await filled();
    const mark = kernel.links.get(`br-${network.id.slice(0, 12)}`)?.alias?.slice(0, -64);
    kernel.links.set("stray", { alias: `${mark}${absent}`, kind: "bridge" });
    kernel.links.set("foreign", { alias: `dnet:00000000:${absent}`, kind: "bridge" });
    kernel.links.set("eth0", { alias: undefined, kind: "dummy" });
    await opened.reopen();
    expect([...kernel.links.keys()].sort()).toEqual([`br-${network.id.slice(0, 12)}`, "eth0", "foreign"]);
  });

  it("starts without a driver that a network needs", async () => {
    const { opened, libnetwork } = await filled();
    const test = await libnetwork.createNetwork({ name: "t", driver: "test" });
    const only = (await import("../drivers/bridge/bridge-driver.ts")).bridgeDriver();
    const other = await openController({ stores: opened.stores, kernel: opened.kernel, drivers: [only] });
    expect(other.libnetwork.network(test.id).name).toBe("t");
    expect(other.lines).toContainEqual({ level: "error", message: expect.stringContaining("network t") });
    await other.libnetwork.createNetwork({ name: "another" });
  });
});
