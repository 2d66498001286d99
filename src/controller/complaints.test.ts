import { describe, expect, it } from "vitest";
import { type Opened, openController } from "../../test/fakes/open-controller.ts";
import { testDriver } from "../drivers/test/test-driver.ts";
import { NetworkError } from "../errors.ts";
import type { Plan } from "../linux/plan.ts";
import { parseIp } from "../net/ip.ts";
import { parsePrefix } from "../net/prefix.ts";
import type { Libnetwork } from "./libnetwork.ts";

/** What users of the original complain about, where the controller decides it. docs/complaints.md has the numbers and all the other tests. */

const refusal = async (call: Promise<unknown>): Promise<NetworkError> => {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof NetworkError)) throw new Error(`not refused: ${String(error)}`);
  return error;
};
/** Lets everything happen that waits for nothing outside. */
const settled = async () => {
  for (let n = 0; n < 20; n++) await new Promise((resolve) => setImmediate(resolve));
};

/** The daemon dies before the n-th change of the kernel, in the middle of what it does: nothing is undone, nobody is told. */
const dieAt = async (opened: Opened, n: number, work: (libnetwork: Libnetwork) => Promise<unknown>) => {
  const { kernel } = opened;
  const { apply, teardown } = kernel;
  let left = n;
  const until =
    (change: (plan: Plan) => Promise<unknown>) =>
    async (plan: Plan): Promise<boolean> => {
      for (const operation of plan) {
        if (left-- <= 0) return new Promise(() => undefined);
        await change.call(kernel, [operation]);
      }
      return true;
    };
  Object.assign(kernel, { apply: until(apply), teardown: until(teardown) });
  let done = false;
  void work(opened.libnetwork).then(() => {
    done = true;
  });
  await settled();
  Object.assign(kernel, { apply, teardown });
  await opened.reopen();
  return done;
};

const byName = (libnetwork: Libnetwork) => ({
  network: libnetwork.networks().find(({ name }) => name === "net"),
  endpoint: libnetwork.endpoints().find(({ name }) => name === "svc"),
  sandbox: libnetwork.sandboxes().find(({ containerId }) => containerId === "c1"),
});

const makeAll = async (libnetwork: Libnetwork) => {
  const network = await libnetwork.createNetwork({ name: "net" });
  const endpoint = await libnetwork.createEndpoint(network.id, { name: "svc" });
  const sandbox = await libnetwork.createSandbox({ containerId: "c1" });
  await libnetwork.attach(endpoint.id, sandbox.id);
  return { network, endpoint, sandbox };
};

const removeServices = async (libnetwork: Libnetwork) => {
  const { sandbox } = byName(libnetwork);
  if (sandbox) await libnetwork.deleteSandbox(sandbox.id);
  // It goes with its sandbox where it was attached.
  const { endpoint } = byName(libnetwork);
  if (endpoint) await libnetwork.deleteEndpoint(endpoint.id);
};

const removeAll = async (libnetwork: Libnetwork) => {
  await removeServices(libnetwork);
  const { network } = byName(libnetwork);
  if (network) await libnetwork.deleteNetwork(network.id);
};

describe("an end in the middle of anything", () => {
  it("1, moby 20398, moby 31389, moby 33796, ln 1108: what has a name is shown and can be removed, and then the name is free", async () => {
    let points = 0;
    for (let done = false; !done; points++) {
      const opened = await openController();
      done = await dieAt(opened, points, makeAll);
      await removeAll(opened.libnetwork);
      await makeAll(opened.libnetwork);
      await opened.libnetwork.close();
    }
    expect(points).toBeGreaterThan(10);
  });

  it("2, moby 17217, moby 17555, moby 19261, moby 42119: endpoints are never counted: a network is in use by those that are shown", async () => {
    let points = 0;
    for (let done = false; !done; points++) {
      const opened = await openController();
      const { network } = await makeAll(opened.libnetwork);
      done = await dieAt(opened, points, async (libnetwork) => {
        const { endpoint, sandbox } = byName(libnetwork);
        await libnetwork.detach(endpoint?.id ?? "", sandbox?.id ?? "");
        await libnetwork.deleteEndpoint(endpoint?.id ?? "");
      });
      const { libnetwork } = opened;
      const shown = libnetwork.endpoints(network.id).map(({ name }) => name);
      if (shown.length > 0) {
        const { message, hint } = await refusal(libnetwork.deleteNetwork(network.id));
        expect(message).toBe(`network net id ${network.id} has active endpoints`);
        expect(hint).toBe("unpublish these first: svc");
        await libnetwork.deleteEndpoint(byName(libnetwork).endpoint?.id ?? "", { force: true });
      }
      await libnetwork.deleteNetwork(network.id);
      await libnetwork.close();
    }
    expect(points).toBeGreaterThan(1);
  });

  it("6, moby 31694, moby 43052, moby 37338, cni 697: no address is lost, by a crash or a reboot", async () => {
    const opened = await openController();
    const subnets = [{ pool: parsePrefix("10.1.0.0/29") }];
    const { id } = await opened.libnetwork.createNetwork({ name: "net", subnets });
    const publish = (name: string) => opened.libnetwork.createEndpoint(id, { name });
    for (let n = 0; n < 12; n++) {
      await dieAt(opened, n, async (libnetwork) => {
        const endpoint = await publish("svc");
        const sandbox = await libnetwork.createSandbox({ containerId: "c1" });
        await libnetwork.attach(endpoint.id, sandbox.id);
      });
      if (n % 3 === 0) {
        opened.kernel.reboot();
        await opened.reopen();
      }
      await removeServices(opened.libnetwork);
    }
    const addresses: string[] = [];
    for (let n = 0; n < 5; n++) addresses.push(...(await publish(`all${n}`)).addresses);
    expect(addresses).toEqual([2, 3, 4, 5, 6].map((last) => `10.1.0.${last}/29`));
    await opened.libnetwork.close();
  });
});

describe("addresses", () => {
  it("8, moby 26284, moby 49781: an address stays with a service that is not attached, and whoever wants it is told whose it is", async () => {
    const opened = await openController();
    const subnets = [
      { pool: parsePrefix("10.1.0.0/24"), gateway: parseIp("10.1.0.1"), auxiliary: { printer: parseIp("10.1.0.9") } },
    ];
    const { id } = await opened.libnetwork.createNetwork({ name: "net", subnets });
    const want = (address: string) =>
      opened.libnetwork.createEndpoint(id, { name: "other", addresses: [parseIp(address)] });
    const svc = await opened.libnetwork.createEndpoint(id, { name: "svc", addresses: [parseIp("10.1.0.2")] });
    const sandbox = await opened.libnetwork.createSandbox({ containerId: "c1" });
    await opened.libnetwork.attach(svc.id, sandbox.id);
    const hint = async (address: string) => {
      const { message, hint: text } = await refusal(want(address));
      expect(message).toBe("Address already in use");
      return text;
    };
    expect(await hint("10.1.0.2")).toBe("10.1.0.2 of network net: service svc in container c1 has it");
    await opened.libnetwork.detach(svc.id, sandbox.id);
    await opened.libnetwork.deleteSandbox(sandbox.id);
    opened.kernel.reboot();
    await opened.reopen();
    expect(await hint("10.1.0.2")).toBe("10.1.0.2 of network net: service svc has it");
    expect(await hint("10.1.0.1")).toBe("10.1.0.1 of network net: it is the gateway");
    expect(await hint("10.1.0.9")).toBe("10.1.0.9 of network net: it is set aside as printer");
    // Those that ask for none get another one.
    expect((await opened.libnetwork.createEndpoint(id, { name: "next" })).addresses).toEqual(["10.1.0.3/24"]);
    await opened.libnetwork.close();
  });

  it("38: a network whose addresses run out says so before and when they do", async () => {
    const { libnetwork } = await openController();
    const { id } = await libnetwork.createNetwork({ name: "net", subnets: [{ pool: parsePrefix("10.1.0.0/28") }] });
    const found = async () =>
      (await libnetwork.diagnose([])).findings.filter(({ code }) => code === "addresses-nearly-exhausted");
    for (let n = 0; n < 10; n++) await libnetwork.createEndpoint(id, { name: `s${n}` });
    expect(await found()).toEqual([]);
    for (let n = 10; n < 13; n++) await libnetwork.createEndpoint(id, { name: `s${n}` });
    expect(await found()).toMatchObject([
      { subject: "network net", what: expect.stringContaining("14 of 14 addresses of 10.1.0.0/28 are taken") },
    ]);
    const { message, hint } = await refusal(libnetwork.createEndpoint(id, { name: "more" }));
    expect(message).toBe("no available IPv4 addresses on this network's address pools: 10.1.0.0/28");
    expect(hint).toContain("unpublish services that are not needed");
    await libnetwork.close();
  });
});

describe("what waits", () => {
  it("10, moby 5618, moby 18156: a removal that hangs in the kernel holds up nothing else", async () => {
    const { libnetwork, kernel } = await openController();
    const { network, sandbox } = await makeAll(libnetwork);
    const stuck = await libnetwork.createNetwork({ name: "stuck" });
    const [hangs, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const teardown = kernel.teardown.bind(kernel);
    kernel.teardown = async (plan) => {
      hangs.resolve();
      await go.promise;
      await teardown(plan);
    };
    const removal = libnetwork.deleteNetwork(stuck.id);
    await hangs.promise;
    expect(libnetwork.networks().map(({ name }) => name)).toEqual(["net"]);
    expect((await refusal(libnetwork.deleteNetwork(stuck.id))).message).toBe("Resource not found: Network");
    const more = await libnetwork.createEndpoint(network.id, { name: "more" });
    await libnetwork.attach(more.id, (await libnetwork.createSandbox({ containerId: "c2" })).id);
    expect(libnetwork.sandbox(sandbox.id).endpoints).toHaveLength(1);
    const next = libnetwork.createNetwork({ name: "stuck" });
    go.resolve();
    await removal;
    // The name was free at once, the subnet is when the bridge is gone.
    expect((await next).subnets[0]?.pool).toBe("172.19.0.0/16");
    await libnetwork.close();
  });

  it("9, ln 813, ln 882, moby 33871: a driver that is not there keeps nobody from starting, and only its networks are refused", async () => {
    const opened = await openController();
    const { id } = await opened.libnetwork.createNetwork({ name: "net", driver: "test" });
    await opened.libnetwork.createEndpoint(id, { name: "svc" });
    const { local, global } = opened.stores;
    const without = await openController({ stores: { local, global }, kernel: opened.kernel, drivers: [] });
    expect(without.libnetwork.endpoints().map(({ name }) => name)).toEqual(["svc"]);
    expect((await refusal(without.libnetwork.createEndpoint(id, { name: "more" }))).message).toContain("test");
    const back = await openController({ stores: { local, global }, kernel: opened.kernel, drivers: [testDriver()] });
    await back.libnetwork.createEndpoint(id, { name: "more" });
  });
});

describe("networks of one name", () => {
  it("23, moby 18864, moby 20648, moby 33561, moby 40901: of many that are made at once there is one", async () => {
    const { libnetwork } = await openController();
    const made = await Promise.allSettled(Array.from({ length: 20 }, () => libnetwork.createNetwork({ name: "net" })));
    expect(made.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    expect(libnetwork.networks()).toHaveLength(1);
    await libnetwork.close();
  });
});
