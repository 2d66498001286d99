import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { type Opened, openController } from "../../test/fakes/open-controller.ts";
import { hostNamespace } from "../linux/plan.ts";
import { parseInterfaceAddress } from "../net/prefix.ts";

/** What others take from a running daemon, as the controller hears of it; `test/e2e/wiring-repair.test.ts` has the real kernel. */

let one: Opened;
beforeEach(() => void vi.useFakeTimers());
afterEach(async () => {
  vi.useRealTimers();
  await one.libnetwork.close();
});

const attached = async () => {
  one = await openController({ repairEvery: 30_000 });
  const { libnetwork, kernel } = one;
  const network = await libnetwork.createNetwork({ name: "web" });
  const sandbox = await libnetwork.createSandbox({ containerId: "c1" });
  const endpoint = await libnetwork.createEndpoint(network.id, { name: "c1" });
  await libnetwork.attach(endpoint.id, sandbox.id);
  const marked = (id: string) => kernel.marked().get(id) ?? "";
  return {
    ...{ libnetwork, kernel, network, sandbox, endpoint },
    bridge: marked(network.id),
    port: marked(endpoint.id),
  };
};
const mark = (id: string): string => `dnet:${one.libnetwork.node}:${id}`;
const said = () => one.lines.filter(({ level }) => level === "warning").map(({ message }) => message);

it("puts back a link that the kernel says is gone, and counts it", async () => {
  const { libnetwork, kernel, endpoint, port } = await attached();
  kernel.links.delete(port);
  kernel.lose({ mark: mark(endpoint.id) });
  await vi.advanceTimersByTimeAsync(100);
  expect(kernel.marked().get(endpoint.id)).toBe(port);
  expect(said()).toEqual([
    expect.stringMatching(/^container c1: found it without veth pair: .*, expected it with .*: put back$/),
  ]);
  expect(libnetwork.repairs).toBe(1);
});

it("puts back a bridge, and what was plugged into it", async () => {
  const { kernel, network, bridge, port } = await attached();
  kernel.links.delete(bridge);
  kernel.links.delete(port);
  kernel.lose({ mark: mark(network.id) });
  await vi.advanceTimersByTimeAsync(100);
  expect([...kernel.links.keys()].sort()).toEqual([bridge, port].sort());
});

it("takes what operations take away for theirs", async () => {
  const { libnetwork, kernel, endpoint, sandbox } = await attached();
  await libnetwork.detach(endpoint.id, sandbox.id);
  const before = kernel.applied.length;
  kernel.lose({ mark: mark(endpoint.id) });
  kernel.lose({ mark: mark("0".repeat(64)) });
  kernel.lose({ address: parseInterfaceAddress("192.0.2.1/24") });
  await vi.advanceTimersByTimeAsync(10_000);
  expect(kernel.applied.length).toBe(before);
  expect(libnetwork.repairs).toBe(0);
});

it("looks once a second where another program takes it away without end", async () => {
  const { kernel, endpoint, port } = await attached();
  const began = Date.now();
  for (let elapsed = 0; elapsed < 5_000; elapsed += 50) {
    kernel.links.delete(port);
    kernel.lose({ mark: mark(endpoint.id) });
    await vi.advanceTimersByTimeAsync(50);
  }
  expect(Date.now() - began).toBe(5_000);
  expect(said().length).toBeGreaterThan(2);
  expect(said().length).toBeLessThan(7);
});

it("looks at everything where the kernel's words were lost, and from time to time", async () => {
  const { kernel, endpoint, network, bridge, port } = await attached();
  kernel.links.delete(bridge);
  kernel.lose(undefined);
  await vi.advanceTimersByTimeAsync(100);
  expect(kernel.marked().get(network.id)).toBe(bridge);
  kernel.links.delete(port);
  const alias = mark("0".repeat(64));
  await kernel.apply([{ op: "link.add", namespace: hostNamespace, link: { kind: "dummy", name: "lost", alias } }]);
  await vi.advanceTimersByTimeAsync(36_000);
  expect(kernel.marked().get(endpoint.id)).toBe(port);
  expect(kernel.links.has("lost")).toBe(false);
  expect(one.lines.map(({ message }) => message)).toContain("found link lost of ours, expected none: removed");
});

it("leaves a sandbox whose namespace's path is gone to the doctor", async () => {
  const { libnetwork, kernel, sandbox } = await attached();
  kernel.namespaces.delete(sandbox.key);
  await vi.advanceTimersByTimeAsync(72_000);
  expect(libnetwork.sandboxes()).toHaveLength(1);
  expect(kernel.namespaces.has(sandbox.key)).toBe(false);
});
