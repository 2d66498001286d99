import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { hostNamespace, type LinkSpec, type Operation, plan } from "../../src/linux/plan.ts";
import { WorkerKernel } from "../../src/linux/worker-kernel.ts";
import { parseInterfaceAddress } from "../../src/net/prefix.ts";
import { enterOwnHost, eventually, expectNothingLeft, run } from "../own-host.ts";

let kernel: WorkerKernel;

beforeAll(() => {
  enterOwnHost();
  kernel = new WorkerKernel();
});
afterEach(() => expectNothingLeft());
afterAll(() => kernel.close());

describe("what the kernel tells of", () => {
  it("is told of links of a mark and of addresses that go, and of nothing else", async () => {
    const losses: unknown[] = [];
    const stop = await kernel.watchLinks("t:", (loss) => losses.push(loss));
    const bridge = { kind: "bridge", name: "br7", alias: "t:bridge", up: true } as const;
    const veth = { kind: "veth", name: "v7", alias: "t:port", master: "br7", up: true } as const;
    const link = (more: LinkSpec): Operation => ({ op: "link.add", namespace: hostNamespace, link: more });
    try {
      await kernel.apply(
        plan(
          link(bridge),
          link({ ...veth, peer: { name: "w7", namespace: hostNamespace } }),
          { op: "address.add", namespace: hostNamespace, device: "br7", address: parseInterfaceAddress("10.7.0.1/24") },
          link({ kind: "bridge", name: "d7", alias: "another's" }),
        ),
      );
      run("ip", "link", "set", "v7", "mtu", "1400");
      run("ip", "link", "delete", "d7");
      const told = async (command: string, ...expected: readonly unknown[]) => {
        losses.length = 0;
        run("sh", "-c", command);
        await eventually(`${command}: told`, () => losses.length > 0);
        for (const loss of expected) expect(losses).toContainEqual(loss);
        for (const loss of losses) expect(expected).toContainEqual(loss);
      };
      await told("ip link set v7 down; ip link set v7 up", { mark: "t:port" });
      await told("ip link set v7 nomaster", { mark: "t:port" });
      await told("ip address delete 10.7.0.1/24 dev br7", { address: "10.7.0.1/24" });
      await told("ip link set br7 down", { mark: "t:bridge" });
      await told("ip link delete v7", { mark: "t:port" });
      await told("ip link delete br7", { mark: "t:bridge" });
    } finally {
      stop();
    }
  });

  it("tells of changes of routes, and how full tables of neighbours are", async () => {
    let told = 0;
    const stop = await kernel.watchRoutes(() => told++);
    run("ip", "route", "add", "198.51.100.0/24", "dev", "lo");
    await eventually("it is told", () => told > 0);
    stop();
    told = 0;
    run("ip", "route", "delete", "198.51.100.0/24", "dev", "lo");
    const tables = await kernel.neighborTables();
    expect(told).toBe(0);
    const shown = JSON.parse(run("ip", "-j", "ntable", "show")) as { name: string; thresh3?: number }[];
    for (const [family, name] of [
      [4, "arp_cache"],
      [6, "ndisc_cache"],
    ] as const) {
      const limit = shown.find((table) => table.name === name && table.thresh3 !== undefined)?.thresh3;
      expect(tables.filter((table) => table.family === family)).toEqual([
        { family, limit, entries: expect.any(Number) },
      ]);
    }
  });
});
