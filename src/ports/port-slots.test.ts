import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseIp } from "../net/ip.ts";
import { joinRuns, type PublishedPort } from "./port-mapping.ts";
import { portSlots, slotsOf } from "./port-slots.ts";
import { parseRequest } from "./port-text.ts";

const local = parseIp("127.0.0.1");

describe("ports to be held", () => {
  it("go one to one where the ranges are as long", () => {
    expect(portSlots([parseRequest("8000-8001:80-81")], undefined, [])).toEqual([
      { protocol: "tcp", hostPort: 8000, port: 80 },
      { protocol: "tcp", hostPort: 8001, port: 81 },
    ]);
  });

  it("are chosen where no port is given: one for each", () => {
    expect(portSlots([parseRequest("80-81/udp")], local, [])).toEqual([
      { protocol: "udp", hostAddress: local, hostPort: 0, port: 80 },
      { protocol: "udp", hostAddress: local, hostPort: 0, port: 81 },
    ]);
  });

  it("are chosen from a range for one port", () => {
    expect(portSlots([parseRequest("[::1]:8000-8009:80")], local, [])).toEqual([
      { protocol: "tcp", hostAddress: "::1", hostPort: 8000, otherwise: [8000, 8009], port: 80 },
    ]);
  });

  it("are what they were the last time, while that is what is asked for", () => {
    const before: readonly PublishedPort[] = [
      { protocol: "tcp", hostPort: 40_000, port: 80, count: 2 },
      { protocol: "tcp", hostPort: 8003, port: 90, count: 1 },
    ];
    expect(portSlots([parseRequest("80-82"), parseRequest("8000-8009:90")], undefined, before)).toEqual([
      { protocol: "tcp", hostPort: 40_000, otherwise: [0, 0], port: 80 },
      { protocol: "tcp", hostPort: 40_001, otherwise: [0, 0], port: 81 },
      { protocol: "tcp", hostPort: 0, port: 82 },
      { protocol: "tcp", hostPort: 8003, otherwise: [8000, 8009], port: 90 },
    ]);
    // Another address, another range: chosen anew.
    expect(portSlots([parseRequest("80")], local, before)).toMatchObject([{ hostPort: 0 }]);
    expect(portSlots([parseRequest("7000-7009:90")], undefined, before)).toMatchObject([{ hostPort: 7000 }]);
  });

  it("joined to runs and taken apart again are the same", () => {
    const port = fc.integer({ min: 1, max: 30 });
    const slot = fc.record({ protocol: fc.constantFrom("tcp" as const, "udp" as const), hostPort: port, port });
    fc.assert(
      fc.property(fc.array(slot, { maxLength: 40 }), (slots) => {
        expect(slotsOf(joinRuns(slots.map((each) => ({ ...each, count: 1 }))))).toEqual(slots);
      }),
    );
    expect(
      joinRuns(slotsOf([{ protocol: "tcp", hostPort: 9, port: 7, count: 500 }]).map((s) => ({ ...s, count: 1 }))),
    ).toEqual([{ protocol: "tcp", hostPort: 9, port: 7, count: 500 }]);
  });
});
