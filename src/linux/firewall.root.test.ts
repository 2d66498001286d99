import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { parsePrefix } from "../net/prefix.ts";
import { type FirewallNetwork, firewallAdd, firewallClear, firewallRemove, firewallRuleset } from "./firewall.ts";

const network: FirewallNetwork = {
  bridge: "br-0123456789ab",
  subnets: [parsePrefix("172.19.0.0/16"), parsePrefix("fd00:1::/64")],
  internal: false,
  masquerade: true,
  icc: true,
};
const table = "dnet_0badcafe";

/** Runs batches in a network namespace that ends with the process; returns what nft lists afterwards. */
const apply = (...batches: readonly string[]): string => {
  const run = spawnSync("unshare", ["-n", "sh", "-ec", "nft -f -; nft list ruleset"], {
    input: batches.join("\n"),
    encoding: "utf8",
  });
  expect(run.stderr).toBe("");
  expect(run.status).toBe(0);
  return run.stdout;
};

describe("the firewall's ruleset, in the kernel", () => {
  it("is accepted, and whole again after a second load", () => {
    const once = apply(firewallRuleset(table, [network]));
    expect(once).toContain('elements = { "br-0123456789ab" }');
    expect(apply(firewallRuleset(table, [network]), firewallRuleset(table, [network]))).toBe(once);
  });

  it("takes a network in and out again without a trace", () => {
    const empty = apply(firewallRuleset(table, []));
    expect(apply(firewallRuleset(table, []), firewallAdd(table, network))).not.toBe(empty);
    expect(apply(firewallRuleset(table, []), firewallAdd(table, network), firewallRemove(table, network))).toBe(empty);
  });

  it("is gone after a clear, also where it never was", () => {
    expect(apply(firewallRuleset(table, [network]), firewallClear(table))).toBe("");
    expect(apply(firewallClear(table))).toBe("");
  });
});
