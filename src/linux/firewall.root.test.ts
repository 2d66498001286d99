import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { configurations } from "../../scripts/firewall-configurations.ts";
import { bridgeDriver } from "../drivers/bridge/bridge-driver.ts";
import { parseIp } from "../net/ip.ts";
import { parseMac } from "../net/mac.ts";
import {
  firewallAdd,
  firewallClear,
  firewallReach,
  firewallRemove,
  firewallRuleset,
  firewallUnreach,
} from "./firewall.ts";
import { apartAdd, apartRemove, apartRuleset } from "./firewall-apart.ts";
import { type GuardedPort, spoofAdd, spoofRemove, spoofRuleset } from "./firewall-spoof.ts";

const table = "dnet_0badcafe";
const driver = bridgeDriver();

/** Runs batches in a network namespace that ends with the process; returns what nft lists afterwards. */
const apply = (...batches: readonly string[]): string => {
  // A separator that no batch has: each is a transaction of its own.
  const script = batches.map((batch) => `nft -f - <<'EOF'\n${batch}\nEOF\n`).join("");
  const run = spawnSync("unshare", ["-n", "sh", "-ec", `${script}nft -s list ruleset`], { encoding: "utf8" });
  expect(run.stderr).toBe("");
  expect(run.status).toBe(0);
  return run.stdout;
};

describe.each(configurations)("the ruleset of $name, in the kernel", ({ networks }) => {
  const parts = networks.flatMap((network) => driver.firewall(network) ?? []);
  const whole = firewallRuleset(table, parts);

  it("is accepted, and the same again after a second load", () => {
    const once = apply(whole);
    expect(once).toContain(`table inet ${table} {`);
    expect(apply(whole, whole)).toBe(once);
  });

  it("is the same whether made at once or network by network, also twice", () => {
    const add = parts.map((part) => firewallAdd(table, part));
    expect(apply(firewallRuleset(table, []), ...add, ...add)).toBe(apply(whole));
  });

  it("lets networks go without a trace, also twice, also those that are not there", () => {
    const remove = parts.map((part) => firewallRemove(table, part));
    const empty = apply(firewallRuleset(table, []));
    expect(apply(whole, ...remove, ...remove)).toBe(empty);
    expect(apply(firewallRuleset(table, []), ...remove)).toBe(empty);
  });

  it("is gone after a clear, also where it never was", () => {
    expect(apply(whole, firewallClear(table))).toBe("");
    expect(apply(firewallClear(table))).toBe("");
  });
});

it("makes the tables of other parts in the same batch, and opens what they reach", () => {
  const ports = [
    { address: parseIp("172.18.0.2"), protocol: "tcp", port: 80, count: 1 },
    { address: parseIp("fd00:18::2"), protocol: "udp", port: 5000, count: 10 },
  ] as const;
  const part = { table: "inet other", ruleset: () => "add table inet other\n", reachable: () => ports };
  const whole = firewallRuleset(table, [], [part]);
  const listing = apply(whole);
  expect(listing).toContain("table inet other {");
  expect(listing).toContain("172.18.0.2 . tcp . 80");
  expect(listing).toContain("fd00:18::2 . udp . 5000-5009");
  const [reach, unreach] = [firewallReach(table, ports), firewallUnreach(table, ports)];
  const empty = apply(firewallRuleset(table, []));
  expect(apply(firewallRuleset(table, []), reach, reach, "add table inet other")).toBe(listing);
  expect(apply(firewallRuleset(table, []), reach, unreach, unreach)).toBe(empty);
});

describe("the table of sandboxes that may not forge addresses, in the kernel", () => {
  const port = (n: number): GuardedPort => ({
    port: `veth${n}`,
    mac: parseMac(`02:42:ac:12:00:0${n}`),
    addresses: [parseIp(`172.18.0.${n}`), parseIp(`fd00:18::${n}`)],
  });
  const whole = spoofRuleset(table, [port(2), port(3)]);

  it("is the same made at once or port by port, also twice, and gone with a ruleset of none", () => {
    expect(apply(spoofAdd(table, port(2)), spoofAdd(table, port(3)), spoofAdd(table, port(3)))).toBe(apply(whole));
    expect(apply(whole, whole)).toBe(apply(whole));
    expect(apply(whole, spoofRuleset(table, []))).toBe("");
  });

  it("lets ports go without a trace, also twice, also after a flush", () => {
    const one = apply(spoofRuleset(table, [port(3)]));
    expect(apply(whole, spoofRemove(table, port(2)), spoofRemove(table, port(2)))).toBe(one);
    expect(apply(whole, "flush ruleset", spoofRemove(table, port(2)))).not.toContain("elements");
  });
});

it("the table of sandboxes that are kept apart is the same made at once or port by port, lets them go, and goes with none", () => {
  const whole = apartRuleset(table, ["veth2", "veth3"]);
  expect(apply(apartAdd(table, "veth2"), apartAdd(table, "veth3"), apartAdd(table, "veth3"))).toBe(apply(whole));
  expect(apply(whole, apartRemove(table, "veth2"), apartRemove(table, "veth2"))).toBe(
    apply(apartRuleset(table, ["veth3"])),
  );
  expect(apply(whole, "flush ruleset", apartRemove(table, "veth2"))).not.toContain("elements");
  expect(apply(whole, apartRuleset(table, []))).toBe("");
});
