import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { configurations } from "../../scripts/firewall-configurations.ts";
import { bridgeDriver } from "../drivers/bridge/bridge-driver.ts";
import { firewallAdd, firewallClear, firewallRemove, firewallRuleset } from "./firewall.ts";

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

it("makes room for another part's chains, maps and rules", () => {
  const part = () => `  map ports { type inet_service : inet_service; elements = { 8080 : 80 }; }
  chain published {
    tcp dport 80 ct status dnat accept comment "port 8080"
  }
  chain ports {
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local dnat ip to 10.0.0.2 : tcp dport map @ports
  }
`;
  const listing = apply(firewallRuleset(table, [], [part]));
  expect(listing).toContain("8080 : 80");
  expect(/chain published \{[^}]*\}/.exec(listing)?.[0]).toContain('accept comment "port 8080"');
});
