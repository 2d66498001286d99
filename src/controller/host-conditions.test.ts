import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { FakeKernel } from "../../test/fakes/fake-kernel.ts";
import { FakeProbe } from "../../test/fakes/fake-probe.ts";
import { openController } from "../../test/fakes/open-controller.ts";
import type { NeighborTable } from "../linux/kernel.ts";
import type { NeighborEntry } from "../linux/neighbor-entries.ts";
import { parseIp } from "../net/ip.ts";
import { parseMac } from "../net/mac.ts";
import { parsePrefix } from "../net/prefix.ts";
import { HostConditions, overlapping } from "./host-conditions.ts";
import { fullTables, neighborWarning } from "./neighbor-limit.ts";

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
      const others = { networks: () => [], probe: new FakeProbe(), defaultNetwork: "bridge" };
      const conditions = new HostConditions({
        kernel,
        log: (_level, text) => log.push(text),
        subnets: () => subnets,
        others,
      });
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
  const said = async (table: NeighborTable, own: NeighborEntry[] = []) => {
    const kernel = new FakeKernel();
    kernel.neighbors = [table];
    kernel.neighborEntries.set("/run/docker/netns/1-x", own);
    return (await fullTables(kernel, () => ["/run/docker/netns/1-x"])).map(neighborWarning);
  };

  it("is warned of from four fifths on", async () => {
    expect(await said({ family: 4, entries: 819, limit: 1024 })).toEqual([]);
    expect(await said({ family: 4, entries: 820, limit: 1024 })).toEqual([expect.stringContaining("820 of 1024")]);
    expect(await said({ family: 6, entries: 1024, limit: 1024 })).toEqual([
      expect.stringContaining("net.ipv6.neigh.default.gc_thresh3=4096"),
    ]);
  });

  it("may have any number of permanent entries", async () => {
    const mac = parseMac("02:42:0a:00:00:02");
    const own = Array.from({ length: 500 }, (_, n): NeighborEntry => {
      const address = { ip: parseIp(`10.0.${Math.floor(n / 250)}.${n % 250}`), idle: 0 };
      return { device: "vxlan1", mac, ...address };
    });
    const forwarding = { device: "vxlan1", mac, destination: parseIp("172.17.0.4"), idle: 0 };
    expect(await said({ family: 4, entries: 1000, limit: 1024 }, [...own, forwarding])).toEqual([]);
    expect(await said({ family: 4, entries: 1400, limit: 1024 }, own)).toEqual([
      expect.stringContaining("900 of 1024"),
    ]);
    expect(await said({ family: 6, entries: 1000, limit: 1024 }, own)).toHaveLength(1);
    // More than the limit cannot be but with others' permanent ones.
    expect(await said({ family: 4, entries: 3000, limit: 1024 })).toEqual([]);
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

describe("other programs", () => {
  const drop = {
    chain: "ip filter FORWARD",
    families: [4],
    program: "docker",
    from: ["docker0"],
    to: ["docker0"],
  } as const;

  it("whose chain drops what is forwarded are named once, with what lets the network through", async () => {
    const { libnetwork, kernel, lines } = await openController();
    kernel.drops = [drop];
    kernel.foreignRoutes = [{ to: parsePrefix("0.0.0.0/0"), via: parseIp("203.0.113.2"), device: "wan0" }];
    for (const name of ["web", "db"]) await libnetwork.createNetwork({ name });
    const warnings = () => lines.filter(({ message }) => message.includes("FORWARD"));
    await vi.waitFor(() => expect(warnings()).toHaveLength(1));
    expect(warnings()[0]?.message).toMatch(
      /containers of network web reach nothing outside .*\(iptables -I DOCKER-USER -i br-\w{12} -o wan0 -j ACCEPT; iptables -I DOCKER-USER -o br-\w{12} -j ACCEPT\)/,
    );
    await libnetwork.close();
  });

  it("that let the network through are not named; nor are those of the other family, nor for internal networks", async () => {
    const { libnetwork, kernel } = await openController();
    kernel.drops = [
      { ...drop, from: ["br-*"], to: ["br-*"] },
      { ...drop, chain: "ip6 filter FORWARD", families: [6] },
    ];
    await libnetwork.createNetwork({ name: "web" });
    await libnetwork.createNetwork({ name: "back", internal: true, ipv6: true });
    expect((await libnetwork.diagnose([])).findings).toEqual([]);
    await libnetwork.createNetwork({ name: "six", ipv6: true });
    expect((await libnetwork.diagnose([])).findings).toMatchObject([
      { code: "forward-dropped", subject: "network six", remedy: expect.stringContaining("ip6tables -I DOCKER-USER") },
    ]);
    await libnetwork.close();
  });

  it("whose routes lead to a network's subnet are found by the doctor; those that lead to more than it are not", async () => {
    const { libnetwork, kernel } = await openController();
    await libnetwork.createNetwork({ name: "web", subnets: [{ pool: parsePrefix("172.18.0.0/16") }] });
    kernel.foreignRoutes = [
      { to: parsePrefix("172.18.5.0/24"), via: parseIp("10.8.0.1"), device: "tun0" },
      { to: parsePrefix("172.16.0.0/12"), device: "tun0" },
    ];
    const { findings } = await libnetwork.diagnose([]);
    expect(findings.map(({ code, what }) => [code, what])).toEqual([
      [
        "overlapping-route",
        "the host's route 172.18.5.0/24 via 10.8.0.1 dev tun0 leads elsewhere what is for 172.18.0.0/16",
      ],
    ]);
    await libnetwork.close();
  });

  it.each([
    ["runs", "/var/run", "docker.sock"],
    ["has run", "/var/lib/docker/network/files", "local-kv.db"],
  ])("a Docker that %s has docker0, also while it is not there", async (_what, directory, file) => {
    const opened = await openController({ defaultNetwork: "bridge" });
    expect(opened.kernel.links.has("docker0")).toBe(true);
    expect((await opened.libnetwork.diagnose([])).findings).toEqual([]);
    // It comes after us, and takes the bridge that it finds.
    await opened.libnetwork.close();
    opened.probe.directories.set(directory, [file]);
    await opened.reopen();
    const found = opened.libnetwork.diagnose([]);
    expect((await found).findings).toMatchObject([{ code: "shared-bridge", subject: "network bridge" }]);
    const said = () => opened.lines.filter(({ message }) => message.includes("docker0 carries our network bridge"));
    await vi.waitFor(() => expect(said()).toHaveLength(1));
    // The remedy.
    await opened.libnetwork.deleteNetwork(opened.libnetwork.networks()[0]?.id ?? "");
    await opened.libnetwork.close();
    await opened.reopen();
    expect(opened.kernel.links.has("docker0")).toBe(false);
    expect(opened.libnetwork.networks()).toMatchObject([{ name: "bridge" }]);
    expect((await opened.libnetwork.diagnose([])).findings).toEqual([]);
    await opened.libnetwork.close();
  });
});
