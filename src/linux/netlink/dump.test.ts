import { describe, expect, it } from "vitest";
import { flag, nlmsg } from "./constants.ts";
import { readDump } from "./dump.ts";
import type { NetlinkMessage } from "./message.ts";

const message = (sequence: number, more: Partial<NetlinkMessage> = {}): NetlinkMessage => ({
  type: 16,
  flags: flag.MULTI,
  sequence,
  body: Buffer.from([sequence]),
  ...more,
});
const done = (sequence: number) => message(sequence, { type: nlmsg.DONE, body: Buffer.alloc(4) });

/** A kernel that answers each request with these batches of messages, made with its sequence number. */
const kernel = (answer: (sequence: number) => readonly (readonly NetlinkMessage[])[]) => {
  let asked = 0;
  const batches: (readonly NetlinkMessage[])[] = [];
  return {
    asked: () => asked,
    ask: () => {
      batches.push(...answer(++asked));
      return asked;
    },
    receive: () => batches.shift() ?? [],
  };
};

describe("a dump of the kernel's tables", () => {
  it("47: that was interrupted is read again, never believed, not even in parts", () => {
    const interrupted = { flags: flag.MULTI | flag.DUMP_INTR };
    const { ask, receive, asked } = kernel((n) =>
      n < 3 ? [[message(n)], [message(n, interrupted), done(n)]] : [[message(n), message(n)], [done(n)]],
    );
    expect(readDump(ask, receive).map(({ sequence }) => sequence)).toEqual([3, 3]);
    expect(asked()).toBe(3);
  });

  it("47: that is interrupted at its end alone is read again too", () => {
    const { ask, receive, asked } = kernel((n) => [
      [message(n), { ...done(n), flags: n === 1 ? flag.MULTI | flag.DUMP_INTR : flag.MULTI }],
    ]);
    expect(readDump(ask, receive)).toHaveLength(1);
    expect(asked()).toBe(2);
  });

  it("47: that is always interrupted is an error, in the end", () => {
    const { ask, receive, asked } = kernel((n) => [[message(n, { flags: flag.DUMP_INTR }), done(n)]]);
    expect(() => readDump(ask, receive)).toThrow(expect.objectContaining({ code: "dump-interrupted" }));
    expect(asked()).toBe(10);
  });

  it("has nothing of an earlier one's answers", () => {
    const { ask, receive } = kernel((n) => [[message(n + 7), done(n + 7), message(n)], [done(n)]]);
    expect(readDump(ask, receive).map(({ sequence }) => sequence)).toEqual([1]);
  });
});
