import fc from "fast-check";
import { expect, it } from "vitest";
import type { Announcement } from "../../cluster/gossip/announcement.ts";
import { parseIp } from "../../net/ip.ts";
import { parseInterfaceAddress, parsePrefix } from "../../net/prefix.ts";
import type { EndpointRecord, NetworkRecord } from "../records.ts";
import { announcementOf, resolve, secondName } from "./resolve.ts";

const network: NetworkRecord = {
  version: 1,
  id: "ab".repeat(32),
  name: "multihost",
  driver: "overlay",
  scope: "global",
  internal: false,
  ipv6: false,
  options: {},
  labels: {},
  subnets: [{ pool: parsePrefix("10.9.0.0/16"), gateway: parseInterfaceAddress("10.9.0.1/16"), vni: 700 }],
  auxiliary: { printer: parseIp("10.9.0.9") },
  created: "2026-01-01T00:00:00.000Z",
};
const id = (n: number) => n.toString(16).padStart(2, "0").repeat(32);
const announcement = (n: number, more: Partial<Announcement> = {}): Announcement => ({
  id: id(n),
  network: network.id,
  name: `s${n}`,
  aliases: [],
  addresses: [parseInterfaceAddress(`10.9.1.${n}/16`)],
  created: 1_000,
  container: `c${n}`,
  ...more,
});
const own = (n: number, more: Partial<EndpointRecord> = {}): EndpointRecord => ({
  version: 1,
  id: id(n),
  network: network.id,
  name: `s${n}`,
  aliases: [],
  addresses: [parseInterfaceAddress(`10.9.1.${n}/16`)],
  options: {},
  created: new Date(1_000).toISOString(),
  ...more,
});
const vtep = parseIp("172.17.0.4");
const of = (...announcements: readonly Announcement[]) => [{ node: "0000000b", vtep, announcements }];
const view = (mine: readonly EndpointRecord[], ...announcements: readonly Announcement[]) =>
  resolve(network, mine, of(...announcements), new Set(mine.map((record) => record.id)));

it("shows another node's endpoint with the place that the membership gives it", () => {
  const { remote, renamed, refused } = view([own(1)], announcement(2, { aliases: ["db"] }));
  expect(remote).toMatchObject([
    { name: "s2", aliases: ["db"], announcedBy: "0000000b", sandbox: { node: "0000000b", vtep, container: "c2" } },
  ]);
  expect([...renamed, ...refused]).toEqual([]);
  expect(remote.map(announcementOf)).toEqual([announcement(2, { aliases: ["db"] })]);
});

it.each([
  [
    "outside the subnets",
    announcement(2, { addresses: [parseInterfaceAddress("10.8.0.2/16")] }),
    "10.8.0.2 is no address",
  ],
  ["of the gateway", announcement(2, { addresses: [parseInterfaceAddress("10.9.0.1/16")] }), "10.9.0.1 is no address"],
  ["set aside", announcement(2, { addresses: [parseInterfaceAddress("10.9.0.9/16")] }), "10.9.0.9 is no address"],
  [
    "of a local endpoint",
    announcement(2, { addresses: own(1).addresses, created: 1 }),
    "10.9.1.1 is another service's",
  ],
])("refuses an address %s", (_what, told, reason) => {
  const { remote, refused } = view([own(1)], told);
  expect(remote).toEqual([]);
  expect(refused).toEqual([{ id: id(2), reason: expect.stringContaining(reason) }]);
});

it("refuses the id of a local endpoint", () => {
  expect(view([own(1)], announcement(1, { addresses: [] })).refused).toHaveLength(1);
});

it("leaves a name to the older endpoint, then to the lower id, on every node alike", () => {
  const endpoint = fc.record({
    n: fc.integer({ min: 1, max: 40 }),
    name: fc.constantFrom("a", "b"),
    created: fc.integer({ min: 0, max: 2 }),
  });
  fc.assert(
    fc.property(fc.uniqueArray(endpoint, { selector: ({ n }) => n, maxLength: 12 }), fc.nat(11), (endpoints, cut) => {
      const told = endpoints.map(({ n, name, created }) => announcement(n, { name, created }));
      const mine = endpoints.map(({ n, name, created }) => own(n, { name, created: new Date(created).toISOString() }));
      const names = (local: readonly EndpointRecord[], others: readonly Announcement[]) => {
        const { remote, renamed } = view(local, ...others);
        const all = [...remote, ...local.map((record) => ({ ...record, name: renamed.get(record.id) ?? record.name }))];
        return all.map((record) => `${record.id} ${record.name}`).sort();
      };
      const one = names(mine.slice(0, cut), told.slice(cut));
      expect(names(mine.slice(cut), told.slice(0, cut).reverse())).toEqual(one);
      expect(new Set(one.map((text) => text.split(" ")[1])).size).toBe(endpoints.length);
      for (const name of ["a", "b"]) {
        const rivals = told.filter((each) => each.name === name);
        const [winner] = rivals.sort((x, y) => x.created - y.created || (x.id < y.id ? -1 : 1));
        if (winner) expect(one).toContain(`${winner.id} ${name}`);
      }
    }),
  );
});

it("makes second names that are names", () => {
  expect(secondName("web", id(0xab))).toBe("web-ababab");
  const long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(60)].join(".");
  for (const text of [secondName(long, id(1)), secondName("a".repeat(63), id(1))]) {
    expect(text).toMatch(/^a{56}-010101(\..*)?$/);
    expect(text.length).toBeLessThanOrEqual(253);
  }
});
