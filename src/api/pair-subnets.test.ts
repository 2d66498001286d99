import { describe, expect, it } from "vitest";
import { parseIp } from "../net/ip.ts";
import { parsePrefix } from "../net/prefix.ts";
import { pairSubnets } from "./pair-subnets.ts";

const one = parsePrefix("10.1.0.0/24");
const two = parsePrefix("10.2.0.0/24");

describe("gateways and ranges", () => {
  it("stay with their pool", () => {
    const requests = [
      { pool: one, gateway: parseIp("10.1.0.1") },
      { pool: two, range: parsePrefix("10.2.0.8/29") },
    ];
    expect(pairSubnets(requests)).toEqual(requests);
  });

  it("go to the pool that they lie in", () => {
    const gateway = parseIp("10.2.0.9");
    const range = parsePrefix("10.2.0.8/29");
    expect(pairSubnets([{ pool: one, gateway, range }, { pool: two }])).toEqual([
      { pool: one },
      { pool: two, gateway, range },
    ]);
    expect(
      pairSubnets([
        { pool: one, gateway },
        { pool: two, gateway: parseIp("10.1.0.9") },
      ]),
    ).toEqual([
      { pool: one, gateway: "10.1.0.9" },
      { pool: two, gateway },
    ]);
  });

  it("stay where they are when they lie in none, or stand alone", () => {
    for (const requests of [
      [{ pool: one, gateway: parseIp("10.9.0.1") }, { pool: two }],
      [{ gateway: parseIp("10.9.0.1") }],
      [{}],
    ]) {
      expect(pairSubnets(requests)).toEqual(requests);
    }
  });
});
