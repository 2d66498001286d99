import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { parseIp } from "../net/ip.ts";
import { parsePrefix } from "../net/prefix.ts";
import { type PortForward, portsAdd, portsClear, portsRemove, portsReplace, portsRuleset } from "./firewall-ports.ts";

const table = "dnet_0badcafe_ports";
const to = (last: number) => ({ to: parseIp(`172.18.0.${last}`), subnet: parsePrefix("172.18.0.0/16") });
const to6 = { to: parseIp("fd00:18::2"), subnet: parsePrefix("fd00:18::/64") };
const one: readonly PortForward[] = [
  { protocol: "tcp", hostPort: 8080, port: 80, count: 1, ...to(2) },
  { protocol: "tcp", hostPort: 8080, port: 80, count: 1, ...to6 },
  { protocol: "udp", hostPort: 7000, port: 53, count: 2, ...to(2) },
  { protocol: "tcp", hostPort: 10_000, port: 10_000, count: 500, ...to(2) },
  { protocol: "tcp", hostAddress: parseIp("203.0.113.1"), hostPort: 443, port: 443, count: 1, ...to(2) },
  { protocol: "sctp", hostAddress: parseIp("2001:db8::1"), hostPort: 9000, port: 9000, count: 3, ...to6 },
];
const two: readonly PortForward[] = [{ protocol: "tcp", hostPort: 8081, port: 80, count: 1, ...to(3) }];

/** Runs batches one after the other in a network namespace of their own; returns what nft lists afterwards. */
const apply = (...batches: readonly string[]): string => {
  const script = batches.map((batch) => `nft -f - <<'BATCH'\n${batch}\nBATCH`).join("\n");
  const { stdout, stderr, status } = spawnSync("unshare", ["-n", "sh", "-ec", `${script}\nnft list ruleset`], {
    encoding: "utf8",
  });
  expect(stderr).toBe("");
  expect(status).toBe(0);
  return stdout;
};

describe("the table of published ports, in the kernel", () => {
  it("is accepted, and whole again after a second load, by whatever way", () => {
    const once = apply(portsRuleset(table, one));
    expect(once).toContain("10000-10499 : 172.18.0.2");
    expect(apply(portsAdd(table, one))).toBe(once);
    expect(apply(portsAdd(table, one), portsAdd(table, one))).toBe(once);
    expect(apply(portsRuleset(table, two), portsRuleset(table, one))).toBe(once);
    // Rules that somebody flushed or put in between are as they should be after any change.
    expect(apply(portsAdd(table, one), `flush chain inet ${table} prerouting\n`, portsAdd(table, one))).toBe(once);
  });

  it("takes ports in and out again without a trace, also where they were flushed", () => {
    const left = apply(portsAdd(table, two));
    expect(apply(portsAdd(table, two), portsAdd(table, one), portsRemove(table, one))).toBe(left);
    expect(apply(portsAdd(table, two), portsRemove(table, one))).toBe(left);
    const moved = one.map((forward) => (forward.to === to6.to ? forward : { ...forward, ...to(9) }));
    expect(apply(portsAdd(table, one), portsReplace(table, one, moved))).toBe(apply(portsAdd(table, moved)));
  });

  it("never leads one port to two sandboxes", () => {
    const other = one.map((forward) => ({ ...forward, port: forward.port === 80 ? 81 : forward.port }));
    const { status, stderr } = spawnSync("unshare", ["-n", "sh", "-ec", "cat | nft -f -"], {
      input: portsAdd(table, one) + portsAdd(table, other),
      encoding: "utf8",
    });
    expect(status).not.toBe(0);
    expect(stderr).toContain("File exists");
  });

  it("is gone after a clear, also where it never was", () => {
    expect(apply(portsRuleset(table, one), portsClear(table))).toBe("");
    expect(apply(portsClear(table))).toBe("");
  });
});
