import { describe, expect, it } from "vitest";
import { parseIp } from "../../net/ip.ts";
import { roundTrip } from "./coordinate.ts";
import { MemberTable } from "./member-table.ts";
import type { Coordinate, Member, MemberStatus } from "./messages.ts";

const member = (name: string, status: MemberStatus = "alive", tags: Record<string, string> = {}): Member => ({
  name,
  address: parseIp("10.0.0.1"),
  port: 7946,
  status,
  tags,
});
const told = (events: readonly { kind: string; member: Member }[]) =>
  events.map((each) => `${each.kind} ${each.member.name}`);
const shown = (table: MemberTable) => table.members().map(({ name, status }) => `${name} ${status}`);

describe("the members", () => {
  it("come from lists and events, each change told once", () => {
    const table = new MemberTable();
    expect(told(table.sync([member("a"), member("b", "failed")], true, 0))).toEqual(["join a", "failed b"]);
    expect(told(table.apply("member-join", [member("c")]))).toEqual(["join c"]);
    expect(told(table.apply("member-join", [member("c")]))).toEqual([]);
    // An event carries the status of the moment it was made; what it says counts.
    expect(told(table.apply("member-failed", [member("c", "alive")]))).toEqual(["failed c"]);
    expect(told(table.apply("member-leave", [member("a", "leaving")]))).toEqual(["leave a"]);
    expect(told(table.apply("member-update", [member("b", "failed", { x: "1" })]))).toEqual(["update b"]);
    expect(told(table.apply("member-reap", [member("a"), member("nobody")]))).toEqual(["reap a"]);
    expect(shown(table)).toEqual(["b failed", "c failed"]);
  });

  it("that events did not tell are found at the next look", () => {
    const table = new MemberTable();
    table.sync([member("a"), member("b"), member("c"), member("d")], true, 0);
    const list = [member("a"), member("b", "left"), member("d", "alive", { x: "1" }), member("e")];
    expect(told(table.sync(list, false, 1))).toEqual(["reap c", "leave b", "update d", "join e"]);
    expect(told(table.sync(list, false, 2))).toEqual([]);
  });

  it("of an agent that died count as failed until they are back, for a day", () => {
    const table = new MemberTable();
    table.sync([member("self"), member("a"), member("b"), member("gone", "left")], true, 0);
    expect(told(table.sync([member("self")], true, 1_000))).toEqual(["failed a", "failed b", "reap gone"]);
    expect(told(table.sync([member("self"), member("a")], false, 2_000))).toEqual(["join a"]);
    expect(shown(table)).toEqual(["a alive", "b failed", "self alive"]);
    // The agent dies once more: what only the first one knew does not become younger.
    expect(told(table.sync([member("self"), member("a")], true, 3_000))).toEqual([]);
    expect(told(table.sync([member("self"), member("a")], false, 24 * 3_600_000))).toEqual([]);
    expect(told(table.sync([member("self"), member("a")], false, 24 * 3_600_000 + 1_001))).toEqual(["reap b"]);
  });

  it("are bounded", () => {
    const table = new MemberTable();
    table.apply(
      "member-join",
      Array.from({ length: 10_050 }, (_, n) => member(`m${n}`)),
    );
    expect(table.members()).toHaveLength(10_000);
  });
});

describe("round-trip time", () => {
  const at = (vec: readonly number[], height = 0, adjustment = 0): Coordinate => ({
    vec,
    height,
    adjustment,
    error: 1,
  });

  it("is the distance of two coordinates with heights and adjustments", () => {
    expect(roundTrip(at([0.003, 0]), at([0, 0.004]))).toBeCloseTo(5);
    expect(roundTrip(at([0, 0], 0.001), at([0, 0], 0.002))).toBeCloseTo(3);
    expect(roundTrip(at([0.01], 0, -0.002), at([0], 0, -0.003))).toBeCloseTo(5);
    // An adjustment that would make it negative does not count.
    expect(roundTrip(at([0.001], 0, -0.1), at([0]))).toBeCloseTo(1);
  });

  it("is unknown where the coordinates do not fit", () => {
    expect(roundTrip(at([1]), at([1, 2]))).toBeUndefined();
    expect(roundTrip(at([Number.MAX_VALUE]), at([-Number.MAX_VALUE]))).toBeUndefined();
  });
});
