import { describe, expect, it } from "vitest";
import { parseIp } from "../net/ip.ts";
import { parsePrefix } from "../net/prefix.ts";
import { type PortForward, portsReplace, portsRuleset } from "./firewall-ports.ts";

const table = "dnet_0badcafe_ports";
const web = { to: parseIp("172.18.0.2"), subnet: parsePrefix("172.18.0.0/16") };
const web6 = { to: parseIp("fd00:18::2"), subnet: parsePrefix("fd00:18::/64") };

/** One of each kind, both families. */
const forwards: readonly PortForward[] = [
  { protocol: "tcp", hostPort: 8080, port: 80, count: 1, ...web },
  { protocol: "tcp", hostPort: 8080, port: 80, count: 1, ...web6 },
  { protocol: "udp", hostPort: 7000, port: 53, count: 2, ...web },
  { protocol: "tcp", hostPort: 10_000, port: 10_000, count: 10_000, ...web },
  { protocol: "tcp", hostAddress: parseIp("203.0.113.1"), hostPort: 443, port: 443, count: 1, ...web },
  { protocol: "sctp", hostAddress: parseIp("2001:db8::1"), hostPort: 9000, port: 9000, count: 3, ...web6 },
];

describe("the table of published ports", () => {
  it("is what the golden file says", async () => {
    await expect(portsRuleset(table, forwards)).toMatchFileSnapshot("../../test/golden/plans/ports-ruleset.txt");
  });

  it("4: has as many rules with ten thousand ports as with one", () => {
    const rules = (list: readonly PortForward[]) => portsRuleset(table, list).match(/^add rule/gm)?.length;
    const many = Array.from({ length: 10_000 }, (_, n) => ({
      ...web,
      protocol: "tcp" as const,
      hostPort: n + 1,
      port: 80,
      count: 1,
    }));
    expect(rules(many)).toBe(rules(many.slice(0, 1)));
    expect(portsRuleset(table, many).match(/^add element/gm)).toHaveLength(2);
  });

  it("is removed, and not made again, where nothing is published", () => {
    expect(portsRuleset(table, [])).toBe(`add table inet ${table}\ndelete table inet ${table}\n`);
  });

  it("changes elements alone", () => {
    const [one = [], two = []] = [forwards.slice(0, 1), forwards.slice(2, 3)];
    const lines = portsReplace(table, one, two).split("\n");
    expect(lines.filter((line) => / element /.test(line))).toEqual([
      `add element inet ${table} port_any4 { tcp . 8080 : 172.18.0.2 . 80 }`,
      `add element inet ${table} hairpin4 { 172.18.0.0/16 . 172.18.0.2 }`,
      `delete element inet ${table} port_any4 { tcp . 8080 : 172.18.0.2 . 80 }`,
      `delete element inet ${table} hairpin4 { 172.18.0.0/16 . 172.18.0.2 }`,
      `add element inet ${table} port_any4 { udp . 7000 : 172.18.0.2 . 53, udp . 7001 : 172.18.0.2 . 54 }`,
      `add element inet ${table} hairpin4 { 172.18.0.0/16 . 172.18.0.2 }`,
    ]);
    expect(lines.filter((line) => line.startsWith("delete table"))).toEqual([]);
  });

  it.each([
    [{ protocol: "tcp", hostPort: 0, port: 80, count: 1, ...web }],
    [{ protocol: "tcp", hostPort: 65_535, port: 80, count: 2, ...web }],
    [{ protocol: "tcp", hostPort: 80, port: 65_535, count: 2, ...web }],
    [{ protocol: "tcp", hostPort: 1.5, port: 80, count: 1, ...web }],
    [{ protocol: "tcp", hostAddress: parseIp("::1"), hostPort: 80, port: 80, count: 1, ...web }],
  ] as const)("%j is refused", (forward) => {
    expect(() => portsRuleset(table, [forward])).toThrow(RangeError);
  });
});
