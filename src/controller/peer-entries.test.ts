import { describe, expect, it } from "vitest";
import type { NeighborEntry } from "../linux/neighbor-entries.ts";
import type { NeighborOperation } from "../linux/neighbor-executor.ts";
import { type Plan, plan } from "../linux/plan.ts";
import { parseIp } from "../net/ip.ts";
import { macFromBytes, parseMac } from "../net/mac.ts";
import { compareEntries } from "./peer-entries.ts";

const namespace = "/run/netns/1-abc";
const device = "vxlan1";
const mac = (n: number) => parseMac(`02:42:0a:00:00:0${n}`);
const ip = (n: number) => parseIp(`10.0.0.${n}`);
const vtep = (n: number) => parseIp(`172.17.0.${n}`);
const fdb = (n: number, at: number): NeighborOperation => ({
  op: "fdb.add",
  namespace,
  device,
  mac: mac(n),
  destination: vtep(at),
});
const neighbor = (n: number, as = n): NeighborOperation => ({
  op: "neighbor.add",
  namespace,
  device,
  ip: ip(n),
  mac: mac(as),
});
const everybody = macFromBytes([0, 0, 0, 0, 0, 0]);
const flood = (at: number): NeighborOperation => ({
  op: "fdb.add",
  namespace,
  device,
  mac: everybody,
  destination: vtep(at),
});

/** What the kernel has after operations. */
const kernel = (operations: readonly NeighborOperation[], idle = 0): readonly NeighborEntry[] =>
  operations.map((operation) => ({
    device: operation.device,
    mac: operation.mac,
    idle,
    ...("ip" in operation && { ip: operation.ip }),
    ...("destination" in operation && operation.destination !== undefined && { destination: operation.destination }),
  }));

const work: Plan = plan(
  { op: "link.add", namespace, link: { kind: "bridge", name: "br0" } },
  fdb(2, 3),
  neighbor(2),
  fdb(3, 4),
  neighbor(3),
  flood(3),
  flood(4),
);
const entries = work.filter((operation): operation is NeighborOperation => operation.op !== "link.add");
const compare = (found: readonly NeighborEntry[], idleAfter?: number) =>
  compareEntries({ namespace, devices: [device] }, found, work, idleAfter);

describe("ahead of traffic", () => {
  it("nothing is to do where everything is there", () => {
    expect(compare(kernel(entries))).toEqual({ missing: [], foreign: [], idle: [], expected: 6 });
  });
  it("what is missing is made, in its kind", () => {
    expect(compare(kernel([fdb(2, 3), neighbor(3), flood(3)])).missing).toEqual([neighbor(2), fdb(3, 4), flood(4)]);
  });
  it("what has another value is replaced, not removed", () => {
    const found = kernel([fdb(2, 9), neighbor(2, 9), fdb(3, 4), neighbor(3), flood(3), flood(4)]);
    expect(compare(found)).toMatchObject({ missing: [fdb(2, 3), neighbor(2)], foreign: [] });
  });
  it("what nobody wants is removed, on our devices only", () => {
    const other = kernel([neighbor(8)]).map((entry) => ({ ...entry, device: "eth0" }));
    expect(compare([...kernel([...entries, fdb(5, 3), neighbor(5), flood(9)]), ...other]).foreign).toEqual([
      { op: "fdb.delete", namespace, device, mac: mac(5), destination: vtep(3) },
      { op: "neighbor.delete", namespace, device, ip: ip(5), mac: mac(5) },
      { op: "fdb.delete", namespace, device, mac: everybody, destination: vtep(9) },
    ]);
  });
  it("a second host for a MAC goes, the right one stays", () => {
    expect(compare(kernel([...entries, fdb(2, 9)]))).toMatchObject({
      missing: [],
      foreign: [{ op: "fdb.delete", namespace, device, mac: mac(2), destination: vtep(9) }],
    });
  });
});

describe("on demand", () => {
  it("only the hosts must be there", () => {
    expect(compare(kernel([]), 300)).toEqual({ missing: [flood(3), flood(4)], foreign: [], idle: [], expected: 0 });
  });
  it("what is used stays, what was not for long goes with its addresses, what is nobody's goes at once", () => {
    const found = [
      ...kernel([fdb(2, 3)], 299),
      ...kernel([neighbor(2)], 10_000),
      ...kernel([fdb(3, 4), neighbor(3), flood(3), flood(4)], 300),
      ...kernel([fdb(5, 3)]),
    ];
    const { missing, foreign, idle } = compare(found, 300);
    expect(missing).toEqual([]);
    expect(foreign.map((operation) => operation.mac)).toEqual([mac(5)]);
    expect(idle).toEqual([
      { op: "fdb.delete", namespace, device, mac: mac(3), destination: vtep(4) },
      { op: "neighbor.delete", namespace, device, ip: ip(3), mac: mac(3) },
    ]);
  });
});
