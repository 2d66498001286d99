import { encode } from "@msgpack/msgpack";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FakeGossip } from "../../../test/fakes/fake-gossip.ts";
import { runs } from "../../../test/runs.ts";
import { parseMac } from "../../net/mac.ts";
import { parseInterfaceAddress } from "../../net/prefix.ts";
import { AnnouncedList } from "./announced-list.ts";
import type { Announcement } from "./announcement.ts";
import { EndpointGossip } from "./endpoint-gossip.ts";
import {
  maxAnswerBytes,
  maxEventBytes,
  messageName,
  readEvent,
  readPage,
  readQuestion,
  writeEvent,
} from "./messages.ts";

const network = "ab".repeat(32);
const hex = (n: number, length: number) => n.toString(16).padStart(length, "0");
const nodeId = (n: number) => hex(n, 8);
const endpoint = (n: number, more: Partial<Announcement> = {}): Announcement => ({
  id: hex(n, 64),
  network,
  name: `service-${n}`,
  aliases: [],
  addresses: [parseInterfaceAddress(`10.9.${n >> 8}.${n & 255}/16`)],
  mac: parseMac(`02:42:0a:09:${hex(n >> 8, 2)}:${hex(n & 255, 2)}`),
  created: n,
  ...more,
});

/** One daemon after another on each node: what it has outlives it. */
class World {
  readonly gossip: FakeGossip;
  readonly daemons = new Map<string, EndpointGossip>();
  readonly own = new Map<string, Map<string, Announcement>>();
  readonly lines: string[] = [];
  #now = 1_000;

  constructor(seed?: number) {
    this.gossip = new FakeGossip(seed);
  }

  start(n: number): EndpointGossip {
    const self = nodeId(n);
    const own = this.own.get(self) ?? new Map<string, Announcement>();
    this.own.set(self, own);
    const before = this.daemons.get(self);
    const daemon = new EndpointGossip({
      bus: this.gossip.bus(self),
      self,
      own: [...own.values()],
      remembered: before?.others() ?? [],
      onChange: () => undefined,
      log: (_level, message) => this.lines.push(message),
      clock: this.gossip.clock,
      random: this.gossip.random,
      now: () => this.#now++,
    });
    this.daemons.set(self, daemon);
    return daemon;
  }

  /** The daemon ends, by a signal or not; its node is gone for the others. */
  async stop(n: number): Promise<void> {
    await this.daemons.get(nodeId(n))?.close();
    this.gossip.up(nodeId(n), false);
  }

  change(n: number, change: (own: Map<string, Announcement>) => void): void {
    const own = this.own.get(nodeId(n)) ?? new Map<string, Announcement>();
    change(own);
    this.daemons.get(nodeId(n))?.update([...own.values()]);
  }

  publish(n: number, announcement: Announcement): void {
    this.change(n, (own) => own.set(announcement.id, announcement));
  }

  seen(by: number, of: number): readonly Announcement[] | undefined {
    return this.daemons
      .get(nodeId(by))
      ?.others()
      .find(({ node }) => node === nodeId(of))?.announcements;
  }

  /** Every daemon knows of every other node exactly what that has. */
  converged(): boolean {
    return [...this.daemons].every(([self, daemon]) => {
      const others = new Map(daemon.others().map(({ node, announcements }) => [node, announcements] as const));
      return [...this.own].every(
        ([node, own]) =>
          node === self || AnnouncedList.of(own.values()).digest === AnnouncedList.of(others.get(node) ?? []).digest,
      );
    });
  }
}

describe("announcements", () => {
  it("reach every node as they are made, without a question", async () => {
    const world = new World();
    // In order: what comes before its turn is a reason to ask.
    world.gossip.delay = 0;
    for (const n of [1, 2, 3]) world.start(n);
    expect(await world.gossip.until(() => world.converged())).toBe(true);
    await world.gossip.pass(5_000);
    const asked = world.gossip.asked;
    for (let n = 10; n < 20; n++) {
      world.publish(1, endpoint(n));
      await world.gossip.pass(100);
    }
    world.publish(1, endpoint(10, { container: "c1" }));
    world.change(1, (own) => own.delete(endpoint(11).id));
    expect(await world.gossip.until(() => world.converged(), 1_000)).toBe(true);
    expect(world.seen(2, 1)?.[0]).toEqual(endpoint(10, { container: "c1" }));
    await world.gossip.pass(60_000);
    expect(world.gossip.asked).toBe(asked);
    const vteps = world.daemons
      .get(nodeId(2))
      ?.others()
      .map(({ vtep }) => vtep);
    expect(vteps?.sort()).toEqual(["172.17.0.1", "172.17.0.3"]);
  });

  it("converge after the last change, whatever was lost, doubled, late or parted, and who died and came back", async () => {
    const step = fc.oneof(
      fc.record({
        do: fc.constant("put" as const),
        node: fc.integer({ min: 1, max: 4 }),
        n: fc.integer({ min: 0, max: 5 }),
        attached: fc.boolean(),
      }),
      fc.record({
        do: fc.constant("delete" as const),
        node: fc.integer({ min: 1, max: 4 }),
        n: fc.integer({ min: 0, max: 5 }),
      }),
      fc.record({ do: fc.constant("part" as const), mask: fc.integer({ min: 0, max: 15 }) }),
      fc.record({ do: fc.constant("restart" as const), node: fc.integer({ min: 1, max: 4 }) }),
      fc.record({ do: fc.constant("pass" as const), time: fc.constantFrom(100, 1_000, 10_000) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.nat(), fc.array(step, { maxLength: 30 }), async (seed, steps) => {
        const world = new World(seed);
        Object.assign(world.gossip, { loss: 0.3, doubled: 0.2, delay: 2_000 });
        for (const n of [1, 2, 3, 4]) world.start(n);
        for (const each of steps) {
          if (each.do === "put") {
            const announcement = endpoint(each.node * 100 + each.n, each.attached ? { container: "c" } : {});
            world.publish(each.node, announcement);
          } else if (each.do === "delete") {
            world.change(each.node, (own) => own.delete(endpoint(each.node * 100 + each.n).id));
          } else if (each.do === "part") {
            world.gossip.side = (id) => (each.mask >> (Number.parseInt(id, 16) - 1)) & 1;
            world.gossip.changed();
          } else if (each.do === "restart") {
            await world.stop(each.node);
            await world.gossip.pass(100);
            world.gossip.up(nodeId(each.node), true);
            world.start(each.node);
          } else await world.gossip.pass(each.time);
        }
        world.gossip.side = () => 0;
        world.gossip.changed();
        expect(await world.gossip.until(() => world.converged(), 600_000)).toBe(true);
        for (const daemon of world.daemons.values()) await daemon.close();
      }),
      { numRuns: runs(100) },
    );
  }, 120_000);

  it("11, moby 35807: of a thousand endpoints reach a late comer in pages", async () => {
    const world = new World();
    world.start(1);
    const many = runs(1_000);
    for (let n = 0; n < many; n++) world.publish(1, endpoint(n, { aliases: ["a", "b"], container: `c${n}` }));
    await world.gossip.pass(1_000);
    world.start(2);
    expect(await world.gossip.until(() => world.converged(), 60_000)).toBe(true);
    expect(world.seen(2, 1)).toHaveLength(many);
  });

  it("that do not fit an event are asked for", async () => {
    const world = new World();
    for (const n of [1, 2]) world.start(n);
    await world.gossip.pass(5_000);
    world.publish(
      1,
      endpoint(1, { aliases: ["x".repeat(60), "y".repeat(60), "z".repeat(60), "w".repeat(60), "v".repeat(60)] }),
    );
    expect(await world.gossip.until(() => world.converged(), 5_000)).toBe(true);
  });

  it("of a node that fails stay, and go when the membership forgets it", async () => {
    const world = new World();
    for (const n of [1, 2]) world.start(n);
    world.publish(1, endpoint(1));
    await world.gossip.until(() => world.converged());
    await world.stop(1);
    await world.gossip.pass(100_000);
    expect(world.seen(2, 1)).toEqual([endpoint(1)]);
    expect(world.lines).toContain("node host-00000001 is gone: its 1 services are kept, their sandboxes may be well");
    const [two] = [world.daemons.get(nodeId(2))];
    two?.forget(nodeId(1), endpoint(1).id);
    expect(world.seen(2, 1)).toEqual([]);
    world.gossip.up(nodeId(1), true);
    world.start(1);
    expect(await world.gossip.until(() => world.converged())).toBe(true);
    await world.stop(1);
    world.gossip.remove(nodeId(1));
    expect(world.seen(2, 1)).toBeUndefined();
  });

  it("from before a restart count until their node is heard, for ten minutes", async () => {
    const world = new World();
    for (const n of [1, 2]) world.start(n);
    world.publish(1, endpoint(1));
    await world.gossip.until(() => world.converged());
    await world.stop(2);
    await world.stop(1);
    world.gossip.remove(nodeId(1));
    world.gossip.up(nodeId(2), true);
    world.start(2);
    await world.gossip.pass(500_000);
    expect(world.seen(2, 1)).toEqual([endpoint(1)]);
    await world.gossip.pass(200_000);
    expect(world.seen(2, 1)).toBeUndefined();
  });
});

describe("what others send", () => {
  it("that is forged is corrected by the node itself", async () => {
    const world = new World();
    for (const n of [1, 2, 3]) world.start(n);
    world.publish(1, endpoint(1));
    await world.gossip.until(() => world.converged());
    await world.gossip.pass(10_000);
    const heard: Buffer[] = [];
    world.gossip.bus(nodeId(3)).onUserEvent(messageName, (payload) => void heard.push(payload));
    await world.gossip.until(() => heard.some((payload) => readEvent(payload)?.node === nodeId(1)));
    const genuine = heard.flatMap((payload) => readEvent(payload) ?? []).find(({ node }) => node === nodeId(1));
    if (!genuine) throw new Error("nothing heard");
    const forgedList = AnnouncedList.of([endpoint(1), endpoint(66)]);
    for (const [epoch, sequence] of [
      [genuine.epoch, genuine.sequence + 1],
      [genuine.epoch, genuine.sequence + 2],
      [genuine.epoch + 1e12, 5],
    ] as const) {
      const forged = { node: nodeId(1), epoch, sequence, digest: forgedList.digest, change: { put: endpoint(66) } };
      world.gossip.send(nodeId(3), messageName, writeEvent(forged));
    }
    await world.gossip.pass(60_000);
    expect(world.seen(2, 1)).toEqual([endpoint(1)]);
    expect(world.converged()).toBe(true);
    // In the name of one that is no member, or of the hearer: nothing.
    for (const node of [nodeId(9), nodeId(2)]) {
      world.gossip.send(nodeId(3), messageName, writeEvent({ ...genuine, node, change: { put: endpoint(66) } }));
    }
    await world.gossip.pass(60_000);
    expect(
      world.daemons
        .get(nodeId(2))
        ?.others()
        .map(({ node }) => node)
        .sort(),
    ).toEqual([nodeId(1), nodeId(3)]);
  });

  it("in plenty leads to few questions", async () => {
    const world = new World();
    for (const n of [1, 2, 3]) world.start(n);
    await world.gossip.until(() => world.converged());
    await world.gossip.pass(10_000);
    const before = world.gossip.asked;
    for (let n = 0; n < 1_000; n++) {
      const nonsense = { node: nodeId(1), epoch: n, sequence: n, digest: hex(n, 16) };
      world.gossip.send(nodeId(3), messageName, writeEvent(nonsense));
      if (n % 100 === 0) await world.gossip.pass(100);
    }
    await world.gossip.pass(10_000);
    // Two nodes that wonder, each at most twice a second.
    expect(world.gossip.asked - before).toBeLessThan(50);
    expect(world.converged()).toBe(true);
  });

  it("is a message as a whole or nothing", () => {
    const read = [readEvent, readPage, readQuestion];
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 800 }), (payload) => {
        for (const each of read) each(payload);
      }),
      { numRuns: runs(2_000) },
    );
    const row = (...change: unknown[]) => encode([1, Buffer.alloc(4), 1, 1, Buffer.alloc(8), change]);
    const good = [
      Buffer.alloc(32),
      Buffer.alloc(32),
      "a",
      [],
      ["10.0.0.1/8"],
      Buffer.from("024200000001", "hex"),
      1,
      null,
    ];
    expect(readEvent(row(0, good))).toMatchObject({ node: "00000000", change: { put: { name: "a" } } });
    const bad: readonly (readonly [number, unknown])[] = [
      ...[
        [0, Buffer.alloc(31)],
        [1, "ab".repeat(32)],
        [2, "a/b"],
        [2, "a\n"],
        [2, ".a"],
        [2, "x".repeat(64)],
        [3, ["a b"]],
      ],
      ...[
        [3, Array(65).fill("a")],
        [4, ["10.0.0.1"]],
        [4, ["10.0.0.256/8"]],
        [4, ["$(x)/8"]],
        [5, Buffer.alloc(6)],
      ],
      ...[
        [5, Buffer.from("ff".repeat(6), "hex")],
        [6, -1],
        [6, 1.5],
        [6, Number.NaN],
        [7, "a b"],
        [7, "../x"],
        [7, 7],
      ],
    ] as [number, unknown][];
    for (const [index, value] of bad) {
      expect(readEvent(row(0, good.with(index, value as string))), `${index}: ${String(value)}`).toBeUndefined();
    }
    // An array of 2^31 elements, a string of 2^31 bytes, and depth without end.
    for (const start of [[0xdd, 0x7f, 0xff, 0xff, 0xff], [0xdb, 0x7f, 0xff, 0xff, 0xff], Array(800).fill(0x91)]) {
      for (const each of read) expect(each(Uint8Array.from(start))).toBeUndefined();
    }
  });

  it("fits serf's messages", async () => {
    const world = new World();
    const sizes: number[] = [];
    world.start(1);
    world.gossip.bus(nodeId(2)).onUserEvent(messageName, (payload) => void sizes.push(payload.length));
    for (let n = 0; n < 50; n++)
      world.publish(
        1,
        endpoint(n, { aliases: ["y".repeat(n), "x".repeat(60)].filter((a) => a), container: "z".repeat(100) }),
      );
    const answers: number[] = [];
    for (let page = 0; page < 60; page++) {
      for await (const { payload } of withTime(
        world.gossip,
        world.gossip.bus(nodeId(2)).query(messageName, encode([1, page]), { nodes: [`serf-${nodeId(1)}`] }),
      ))
        answers.push(payload.length);
    }
    await world.gossip.pass(1_000);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(maxEventBytes);
    expect(sizes.length).toBeGreaterThanOrEqual(50);
    expect(answers).toHaveLength(60);
    expect(Math.max(...answers)).toBeLessThanOrEqual(maxAnswerBytes);
  });
});

/** Lets time pass while something waits. */
async function* withTime<T>(gossip: FakeGossip, source: AsyncIterable<T>): AsyncIterable<T> {
  let over = false;
  const passing = (async () => {
    while (!over) await gossip.pass(100);
  })();
  try {
    yield* source;
  } finally {
    over = true;
    await passing;
  }
}
