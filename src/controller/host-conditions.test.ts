import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { FakeKernel } from "../../test/fakes/fake-kernel.ts";
import { openController } from "../../test/fakes/open-controller.ts";
import { parseIp } from "../net/ip.ts";
import { parsePrefix } from "../net/prefix.ts";
import { HostConditions, neighborWarning, overlapping } from "./host-conditions.ts";

const subnets = [{ network: "web", pool: parsePrefix("172.18.0.0/16"), devices: ["br-1"] }];

describe("routes of the host", () => {
  it.each([
    ["172.18.0.0/16", "br-1", false],
    ["172.18.0.0/16", "tun0", true],
    ["172.18.5.0/24", "tun0", true],
    ["172.16.0.0/12", "tun0", true],
    ["172.19.0.0/16", "tun0", false],
    ["0.0.0.0/0", "eth0", false],
    ["fd00::/8", "tun0", false],
  ])("to %s by %s: overlap %s", (to, device, expected) => {
    expect(overlapping([{ to: parsePrefix(to), device }], subnets)).toHaveLength(expected ? 1 : 0);
  });

  describe("that change", () => {
    beforeEach(() => vi.useFakeTimers());
    afterEach(() => vi.useRealTimers());

    it("are warned of once, and again when they come back", async () => {
      const kernel = new FakeKernel();
      const log: string[] = [];
      const conditions = new HostConditions({ kernel, log: (_level, text) => log.push(text), subnets: () => subnets });
      await conditions.watch();
      const vpn = { to: parsePrefix("172.16.0.0/12"), via: parseIp("10.8.0.1"), device: "tun0" };
      for (const routes of [[vpn], [vpn], [], [vpn]]) {
        kernel.changeRoutes(routes);
        await vi.advanceTimersByTimeAsync(6_000);
      }
      conditions.close();
      kernel.changeRoutes([]);
      expect(vi.getTimerCount()).toBe(0);
      const text = "the host's route to 172.16.0.0/12 via 10.8.0.1 dev tun0 overlaps 172.18.0.0/16 of network web: ";
      expect(log).toEqual([expect.stringContaining(text), expect.stringContaining(text)]);
    });
  });
});

describe("20, ln 1522, moby 32195: the kernel's table of neighbours", () => {
  it("is warned of from four fifths on", () => {
    expect(neighborWarning({ family: 4, entries: 819, limit: 1024 })).toBeUndefined();
    expect(neighborWarning({ family: 4, entries: 820, limit: 1024 })).toContain("820 of 1024");
    expect(neighborWarning({ family: 6, entries: 1024, limit: 1024 })).toContain(
      "net.ipv6.neigh.default.gc_thresh3=4096",
    );
  });

  it("is looked at when an endpoint is attached", async () => {
    const { libnetwork, kernel, lines } = await openController();
    kernel.neighbors = [{ family: 4, entries: 1000, limit: 1024 }];
    const { id } = await libnetwork.createNetwork({ name: "web" });
    for (const name of ["a", "b"]) {
      const endpoint = await libnetwork.createEndpoint(id, { name });
      const sandbox = await libnetwork.createSandbox({ containerId: name });
      await libnetwork.attach(endpoint.id, sandbox.id);
    }
    await libnetwork.close();
    expect(lines.filter(({ message }) => message.includes("nearly full"))).toHaveLength(1);
  });
});
