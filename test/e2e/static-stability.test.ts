import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { Lab } from "../../src/lab/lab.ts";
import type { LabHost } from "../../src/lab/lab-host.ts";
import type { Ran } from "../../src/lab/lab-place.ts";
import { NodeClient } from "../chaos/node-client.ts";
import { enterOwnHost, eventually, expectNothingLeft } from "../own-host.ts";

// A lab of two hosts; on a machine that others use, every step takes seconds.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });

beforeAll(() => enterOwnHost());
afterAll(async () => {
  for (const lab of await Lab.list()) await lab.down();
  expectNothingLeft();
});

const ok = ({ status, stdout, stderr }: Ran): string => {
  if (status !== 0) throw new Error(`status ${status}\n${stdout}${stderr}`);
  return stdout.trim();
};

/** A container with a service of the same name, attached; how to run something in its network. */
const start = async (host: LabHost, network: string, name: string) => {
  ok(await host.dnet("container", "create", name));
  ok(await host.dnet("service", "publish", `${name}.${network}`));
  ok(await host.dnet("service", "attach", name, `${name}.${network}`));
  const { id, key } = JSON.parse(ok(await host.dnet("container", "info", name, "--format", "json"))) as {
    id: string;
    key: string;
  };
  const files = `/var/lib/docker/network/files/${id}`;
  const inside = async (...command: string[]) => (await host.exec("nsenter", `--net=${key}`, ...command)).status === 0;
  return {
    /** As a program in the container would, with the sandbox's own hosts file and resolver. */
    finds: async (other: string) => {
      const bind = `mount --bind ${files}/resolv.conf /etc/resolv.conf; mount --bind ${files}/hosts /etc/hosts`;
      return inside("unshare", "--mount", "sh", "-ec", `${bind}; getent hosts ${other}`);
    },
    reaches: (address: string) => inside("ping", "-c1", "-w10", address),
  };
};

describe.each(["etcd", "consul"] as const)("%s stopped", (store) => {
  it("sandboxes keep connectivity and names, reads say that they are old, local work goes on, changes of shared things fail", async () => {
    const lab = await Lab.up({ hosts: 2, store, name: `stable-${store}`, port: store === "etcd" ? 42_400 : 42_410 });
    const [one, two] = [lab.host(1), lab.host(2)];
    const [first, second] = [new NodeClient(one), new NodeClient(two)];
    ok(await one.dnet("network", "create", "-d", "overlay", "multihost"));
    const a = await start(one, "multihost", "a");
    await start(two, "multihost", "b");
    const services = (await first.read<readonly { name: string; addresses: string[] }[]>("/services")) ?? [];
    const address = services.find(({ name }) => name === "b")?.addresses[0]?.split("/")[0] ?? "";
    await eventually("a reaches b", () => a.reaches(address), 60_000);
    await eventually("a finds b", () => a.finds("b"), 60_000);
    await lab.store.stop();
    const isStale = async (node: NodeClient) => (await node.call("GET", "/services")).staleSince !== undefined;
    await eventually(
      "both nodes say that they are out of date",
      async () => (await isStale(first)) && isStale(second),
      60_000,
    );
    const check = async () => {
      expect(await a.reaches(address)).toBe(true);
      expect(await a.finds("b")).toBe(true);
      const list = await first.call("GET", "/services");
      expect(list.status).toBe(200);
      expect(list.text).toContain('"name":"b"');
      expect(Date.parse(list.staleSince ?? "")).not.toBeNaN();
      expect((await one.dnet("service", "ls")).stderr).toMatch(/cannot ask its store since .*out of date/);
    };
    // What a node keeps for a start without the store is written a little after a change, and at once when the store is lost.
    const kept = async () =>
      (await one.exec("grep", "-q", '"container":"b"', "/var/lib/docker/network/global.json")).status === 0;
    await eventually("the first node has kept what it knows", kept, 60_000);
    await check();

    // Local things: made, used and removed.
    ok(await one.dnet("network", "create", "-d", "bridge", "here"));
    const c = await start(one, "here", "c");
    expect(await c.finds("c")).toBe(true);
    ok(await one.dnet("container", "rm", "c"));
    ok(await one.dnet("network", "rm", "here"));

    // Shared things: refused with the reason.
    const { text: network } = await first.call("GET", "/networks?name=multihost");
    const id = (JSON.parse(network) as { id: string }[])[0]?.id ?? "";
    const changes: readonly (readonly [string, string, unknown?])[] = [
      ["POST", "/networks", { name: "other", network_type: "overlay" }],
      ["POST", `/networks/${id}/endpoints`, { name: "d" }],
      [
        "DELETE",
        `/networks/${id}/endpoints/${JSON.parse((await first.call("GET", "/services?name=a")).text)[0].id}/sandboxes/${JSON.parse((await first.call("GET", "/sandboxes?container-id=a")).text)[0].id}`,
      ],
    ];
    for (const [method, path, body] of changes) {
      const began = performance.now();
      const { status, text } = await first.call(method, path, body);
      console.log(
        `${store}: ${method} ${path.slice(0, 20)} refused after ${(performance.now() - began).toFixed(0)} ms`,
      );
      expect({ status, text }).toEqual({ status: 503, text: expect.stringMatching(/store/) });
    }

    // A daemon that starts meanwhile goes on with what it knew.
    await one.kill();
    await one.start();
    await check();

    await lab.store.start();
    const inStep = async (node: NodeClient) => (await node.read("/services")) !== undefined;
    await eventually("both nodes are in step again", async () => (await inStep(first)) && inStep(second), 90_000);
    ok(await two.dnet("service", "publish", "e.multihost"));
    expect(ok(await one.dnet("service", "ls"))).toMatch(/ e +multihost/);
    expect(await a.reaches(address)).toBe(true);
    await lab.down();
  });
});
