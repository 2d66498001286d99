import { describe, expect, it } from "vitest";
import { ForeignChanges } from "./foreign-changes.ts";
import type { RulesetChange } from "./netlink/nftables.ts";

const change = (pid: number): RulesetChange => ({ tables: new Set(["t"]), pid, program: "nft" });
const open = () => {
  const told: (number | undefined)[] = [];
  return { told, changes: new ForeignChanges((found) => told.push(found?.pid)) };
};

describe("changes of others", () => {
  it("are told at once while nothing of ours is under way", () => {
    const { told, changes } = open();
    changes.changed(change(7), undefined);
    expect(told).toEqual([7]);
  });

  it("are told from our own, whichever of notification and reply comes first", () => {
    const { told, changes } = open();
    changes.changed(change(7), 1);
    changes.changed(change(8), 1);
    expect(told).toEqual([]);
    changes.replied(1, [7, 9]);
    expect(told).toEqual([8]);
    changes.changed(change(9), undefined);
    expect(told).toEqual([8]);
  });

  it("wait for the last request that was under way, and for no later one", () => {
    const { told, changes } = open();
    changes.changed(change(7), 2);
    changes.replied(1, []);
    expect(told).toEqual([]);
    changes.replied(2, []);
    expect(told).toEqual([7]);
  });

  it("are not missed when a process number comes again", () => {
    const { told, changes } = open();
    changes.replied(1, [7]);
    changes.changed(change(7), undefined);
    changes.changed(change(7), undefined);
    expect(told).toEqual([7]);
  });

  it("are suspected of everything after a loss", () => {
    const { told, changes } = open();
    changes.replied(1, [7]);
    changes.changed(undefined, undefined);
    changes.changed(change(7), undefined);
    expect(told).toEqual([undefined, 7]);
  });
});
