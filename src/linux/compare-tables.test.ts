import { describe, expect, it } from "vitest";
import { differenceOf } from "./compare-tables.ts";

describe("the difference of two listings", () => {
  it("counts lines as often as they are there", () => {
    expect(differenceOf(["a", "b", "b", "c"], ["b", "c", "d", "d"])).toEqual({
      missing: ["a", "b"],
      extra: ["d", "d"],
      expected: 4,
      reordered: false,
    });
  });

  it("is one of order where the lines are the same", () => {
    expect(differenceOf(["a", "b"], ["b", "a"])).toMatchObject({ missing: [], extra: [], reordered: true });
  });
});
