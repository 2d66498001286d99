import { describe, expect, it } from "vitest";
import { grows, notEqual } from "./flat.ts";

const points = [...Array(40).keys()];
/** Sways by a tenth, the same way in every run. */
const sway = (n: number): number => 10 * Math.sin(n * 1.7);

describe("what is flat", () => {
  it("takes equal counts, whatever came while it warmed up", () => {
    expect(notEqual(points.map((n) => (n < 5 ? n : 12)))).toBeUndefined();
    expect(
      grows(
        points.map((n) => 100 + sway(n)),
        0.15,
      ),
    ).toBeUndefined();
    expect(
      grows(
        points.map((n) => 100 + sway(n) - (n < 8 ? 40 : 0)),
        0.15,
      ),
    ).toBeUndefined();
  });

  it.each([
    ["one more at each point", points.map((n) => 12 + n)],
    ["one more, once", points.map((n) => (n < 35 ? 12 : 13))],
    ["one more, now and then", points.map((n) => 12 + Math.floor(n / 15))],
    ["too few samples", [1, 1, 1]],
  ])("refuses a count that leaks: %s", (_, series) => {
    expect(notEqual(series)).toBeDefined();
  });

  it.each([
    ["steadily", points.map((n) => 100 + n + sway(n))],
    ["in steps", points.map((n) => 100 + 20 * Math.floor(n / 10) + sway(n))],
    ["late", points.map((n) => 100 + (n > 30 ? 40 : 0) + sway(n))],
  ])("refuses an amount that grows %s", (_, series) => {
    expect(grows(series, 0.15)).toContain("grew from");
  });
});
