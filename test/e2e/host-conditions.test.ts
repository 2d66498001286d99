import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { option } from "../../src/drivers/options.ts";
import { enterOwnHost, eventually, expectNothingLeft, run, shell } from "../own-host.ts";
import { Lab } from "./firewall-lab.ts";

/** Conditions of the host that networks depend on: said where they are met. */

let lab: Lab;

beforeAll(async () => {
  enterOwnHost();
  lab = await Lab.open();
});
afterEach(() => lab.clear());
afterAll(async () => {
  await lab.close();
  expectNothingLeft();
});

it("a host that may not forward: the network is refused, says what to do, and leaves nothing; internal ones work", async () => {
  run("sysctl", "-qw", "net.ipv4.ip_forward=0");
  const path = "/proc/sys/net/ipv4/ip_forward";
  shell(`mount --bind ${path} ${path}; mount -o remount,bind,ro ${path}`);
  try {
    const before = shell("ip -br link; nft -s list ruleset");
    await expect(lab.network("web")).rejects.toMatchObject({
      code: "sysctl",
      message: "sysctl -w net/ipv4/ip_forward=1: sysctl net/ipv4/ip_forward=1: EROFS",
      hint: expect.stringContaining("set net.ipv4.ip_forward=1 on this host"),
    });
    expect(shell("ip -br link; nft -s list ruleset")).toBe(before);
    expect(lab.libnetwork.networks()).toEqual([]);
    await lab.network("back", { internal: true });
  } finally {
    run("umount", path);
  }
});

it("a host that becomes a router by it is told so", async () => {
  run("sysctl", "-qw", "net.ipv4.ip_forward=0");
  await lab.network("web");
  expect(lab.log).toContain(
    "warning net/ipv4/ip_forward was 0 and is 1 now: this host also routes between its other interfaces",
  );
});

it("another program's chain that drops what is forwarded is named, with what to do, and not changed", async () => {
  // Looked for at most every ten seconds, but at the start at once.
  await lab.close();
  shell(
    "nft 'add table ip filter; add chain ip filter DOCKER-USER; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }'",
  );
  lab = await Lab.open();
  await lab.network("web", { options: { [option.bridgeName]: "web0" } });
  await eventually("it is warned of", () => lab.log.some((line) => line.includes("chain ip filter FORWARD")));
  expect(lab.log.find((line) => line.includes("FORWARD"))).toContain("iptables -I DOCKER-USER -i web0 -j ACCEPT");
  expect(shell("nft list chain ip filter FORWARD")).toContain("policy drop;");
  shell("nft delete table ip filter");
});

it("37: a route that appears later and overlaps a network is warned of, once", async () => {
  const network = await lab.network("web");
  const [subnet] = network.subnets;
  const part = subnet?.pool.replace(/0\/24$/, "128/25") ?? "";
  shell(`ip route add ${part} dev lo; ip route add 198.51.100.0/24 dev lo`);
  const warnings = () => lab.log.filter((line) => line.includes("overlaps"));
  await eventually("it is warned of", () => warnings().length > 0, 30_000);
  shell("ip route delete 198.51.100.0/24 dev lo");
  expect(warnings()).toEqual([
    `warning the host's route to ${part} dev lo overlaps ${subnet?.pool} of network web: sandboxes or what is behind the route may not be reached`,
  ]);
  shell(`ip route delete ${part} dev lo`);
});
