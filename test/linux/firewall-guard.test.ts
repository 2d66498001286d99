import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { FirewallGuard } from "../../src/controller/firewall-guard.ts";
import { Locks } from "../../src/controller/locks.ts";
import { Repairs } from "../../src/controller/repairs.ts";
import type { FirewallNetwork } from "../../src/linux/firewall.ts";
import type { TableDifference } from "../../src/linux/kernel.ts";
import { plan } from "../../src/linux/plan.ts";
import { WorkerKernel } from "../../src/linux/worker-kernel.ts";
import { parseIp } from "../../src/net/ip.ts";
import { parsePrefix } from "../../src/net/prefix.ts";
import { enterOwnHost, eventually, expectNothingLeft, run, shell } from "../own-host.ts";

const table = "dnet_0badcafe";

/** The kernel, with a count of its comparisons. */
class CountingKernel extends WorkerKernel {
  compared = 0;

  override compareTables(script: string, tables: readonly string[]): Promise<readonly TableDifference[]> {
    this.compared++;
    return super.compareTables(script, tables);
  }
}

const network = (n: number): FirewallNetwork => ({
  bridge: `br-${n}`,
  subnets: [parsePrefix(`10.${n}.0.0/16`), parsePrefix(`fd00:${n}::/64`)],
  internal: n % 3 === 0,
  masquerade: true,
  icc: n % 2 === 0,
});

let kernel: CountingKernel;
let guard: FirewallGuard;
let log: string[] = [];
const ours = () => shell(`nft -s list table inet ${table} 2>/dev/null || true`);

beforeAll(() => {
  enterOwnHost();
  kernel = new CountingKernel();
});
beforeEach(async () => {
  log = [];
  kernel.compared = 0;
  const locks = new Locks();
  const write = (level: string, message: string) => void log.push(`${level} ${message}`);
  guard = new FirewallGuard({ kernel, locks, log: write, repairs: new Repairs(write), table });
  await guard.restore(() => [network(1), network(2), network(3)]);
});
afterEach(async () => {
  for (const n of [1, 2, 3]) await guard.release(network(n), plan());
  await guard.close();
  shell("nft flush ruleset");
  expectNothingLeft();
});
afterAll(() => kernel.close());

describe("the firewall's guard", () => {
  it.each([
    ["a flush of everything", "nft flush ruleset", /found no table inet dnet_0badcafe \(/],
    ["a table removed", `nft delete table inet ${table}`, /found no table/],
    [
      "a rule removed",
      `nft delete rule inet ${table} forward handle $(nft -a list chain inet ${table} forward | sed -n 's/.*iifname @internal.*handle //p')`,
      /without 1 of \d+ lines \(first: iifname @internal counter drop comment "internal networks reach nothing"\)/,
    ],
    ["an element removed", `nft 'delete element inet ${table} internal { "br-3" }'`, /without 1 of/],
    ["a chain emptied", `nft flush chain inet ${table} raw_prerouting`, /without 4 of/],
    ["a rule put before ours", `nft insert rule inet ${table} forward accept`, /with 1 foreign \(first: accept\)/],
    [
      "our rules in another order",
      `handle=$(nft -a list chain inet ${table} forward | sed -n 's/.*jump published.*handle //p')
       nft "delete rule inet ${table} forward handle $handle; add rule inet ${table} forward oifname @bridges jump published comment \\"published ports\\""`,
      /in another order/,
    ],
  ])("puts the table back after %s, and says what it found", async (_what, command, message) => {
    const before = ours();
    shell(command);
    expect(ours()).not.toBe(before);
    await eventually("the table is back", () => ours() === before);
    await eventually("it is said", () => log.length > 0);
    expect(log).toEqual([expect.stringMatching(message)]);
    expect(log[0]).toMatch(/\(changed by nft, process \d+\), expected ours with 3 networks: replaced, in \d+ ms$/);
  });

  it("takes its own changes for its own, however they come", async () => {
    await Promise.all(
      Array.from({ length: 40 }, async (_, n) => {
        await guard.protect(network(n + 10), plan());
        await guard.release(network(n + 10), plan());
      }),
    );
    const before = ours();
    // A change of somebody else shows that everything before it has been looked at.
    shell(`nft delete table inet ${table}`);
    await eventually("the table is back", () => ours() === before);
    await eventually("it is said", () => log.length > 0);
    expect(kernel.compared).toBe(1);
    expect(log).toHaveLength(1);
  });

  it("does not look when others change what is theirs", async () => {
    shell("nft add table inet theirs; nft add chain inet theirs c; nft delete table inet theirs");
    const before = ours();
    shell(`nft delete table inet ${table}`);
    await eventually("the table is back", () => ours() === before);
    expect(kernel.compared).toBe(1);
  });

  it("leaves alone what only looks like a change", async () => {
    shell(`nft 'add element inet ${table} bridges { "br-1" }; add chain inet ${table} forward'`);
    shell(`nft 'add element inet ${table} bridges { "x0" }; delete element inet ${table} bridges { "x0" }'`);
    await eventually("it was looked at", () => kernel.compared > 0);
    expect(log).toEqual([]);
  });

  it("keeps networks that come and go while others flush", async () => {
    await Promise.all([
      ...Array.from({ length: 20 }, (_, n) => guard.protect(network(n + 10), plan())),
      ...Array.from({ length: 5 }, async () => shell("nft flush ruleset")),
    ]);
    const shown = (n: number) => ours().includes(`"br-${n + 10}"`);
    await eventually("all are there", () => Array.from({ length: 20 }, (_, n) => n).every(shown));
    await Promise.all(Array.from({ length: 20 }, (_, n) => guard.release(network(n + 10), plan())));
    expect(ours()).not.toContain('"br-10"');
  });

  it("keeps the tables of other parts too", async () => {
    const part = {
      table: "inet dnet_0badcafe_ports",
      ruleset: () => `add table inet dnet_0badcafe_ports
delete table inet dnet_0badcafe_ports
table inet dnet_0badcafe_ports {
  map ports { type inet_service : inet_service; elements = { 8080 : 80 }; }
}
`,
      reachable: () => [{ address: parseIp("10.1.0.2"), protocol: "tcp", port: 80, count: 2 }] as const,
    };
    guard.register(part);
    shell("nft flush ruleset");
    const theirs = () => shell("nft list table inet dnet_0badcafe_ports 2>/dev/null || true");
    await eventually(
      "both are back",
      () => theirs().includes("8080 : 80") && ours().includes("10.1.0.2 . tcp . 80-81"),
    );
    shell("nft flush map inet dnet_0badcafe_ports ports");
    await eventually("it is back", () => theirs().includes("8080 : 80"));
    await eventually("it is said", () => log.length > 1);
    expect(log[1]).toContain("found table inet dnet_0badcafe_ports without 1 of");
    shell("nft delete table inet dnet_0badcafe_ports");
    await eventually("it is back", () => theirs().includes("8080 : 80"));
    await eventually("it is said", () => log.length > 2);
    guard.parts.pop();
    shell("nft delete table inet dnet_0badcafe_ports");
  });

  it("never touches the user's table", async () => {
    shell(`nft -f - <<'EOF'
table inet dnet_user {
  chain forward {
    type filter hook forward priority filter - 10; policy accept;
    ip saddr 203.0.113.7 drop comment "mine"
  }
}
EOF`);
    const theirs = run("nft", "-a", "list", "table", "inet", "dnet_user");
    shell(`nft delete table inet ${table}`);
    await eventually("ours is back", () => ours() !== "");
    await guard.protect(network(7), plan());
    await guard.release(network(7), plan());
    expect(run("nft", "-a", "list", "table", "inet", "dnet_user")).toBe(theirs);
  });
});
