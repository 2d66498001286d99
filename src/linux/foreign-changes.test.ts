import { describe, expect, it } from "vitest";
import { ForeignChanges } from "./foreign-changes.ts";
import type { RulesetChange } from "./netlink/nftables.ts";

const change = (pid: number): RulesetChange => ({ tables: new Set(["t"]), pid, program: "nft" });
const open = (byAuthor = true) => {
  const told: (number | undefined)[] = [];
  return { told, changes: new ForeignChanges((found) => told.push(found?.pid), byAuthor) };
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

describe("changes of others where the kernel's process ids are not ours", () => {
  it("are those that are more than our own", () => {
    const { told, changes } = open(false);
    changes.changed(change(1007), 1);
    changes.changed(change(1008), 1);
    changes.replied(1, [7, 9]);
    expect(told).toEqual([]);
    changes.changed(change(1009), 2);
    changes.changed(change(1010), 2);
    changes.replied(2, [10]);
    expect(told).toEqual([1010]);
    changes.replied(3, [11]);
    changes.changed(change(1011), undefined);
    changes.changed(change(1012), undefined);
    expect(told).toEqual([1010, 1012]);
  });

  it("are those of other programs than nft", () => {
    const { told, changes } = open(false);
    changes.changed({ ...change(5), program: "firewalld" }, 1);
    changes.replied(1, [7]);
    expect(told).toEqual([5]);
    changes.changed(change(1007), undefined);
    expect(told).toEqual([5]);
  });
});
