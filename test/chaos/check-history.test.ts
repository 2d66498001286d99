import { describe, expect, it } from "vitest";
import { checkHistory } from "./check-history.ts";
import type { Action, Event, Outcome, Read, SeenNetwork, SeenService } from "./history.ts";

/** Histories in which time is counted in steps: each event takes one, unless said otherwise. */

const id = (name: string): string => name.padEnd(64, "0");
const event = (begin: number, body: Action | Read, outcome: Outcome = "ok", end = begin + 1, node = "a"): Event => ({
  node,
  begin,
  end,
  outcome,
  ...body,
});
const net = { kind: "create-network", id: id("net"), name: "net", driver: "test" } as const;
const publish = (name: string, of = name): Action => ({ kind: "publish", network: id("net"), name, id: id(of) });
const box = { kind: "create-sandbox", container: "c", id: id("box") } as const;
const attach = (sandbox = "box"): Action => ({ kind: "attach", endpoint: id("e"), sandbox: id(sandbox) });
const detach = (sandbox = "box"): Action => ({ kind: "detach", endpoint: id("e"), sandbox: id(sandbox) });
const unpublish = (name: string): Action => ({ kind: "unpublish", id: id(name), force: false });
const services = (...seen: readonly Partial<SeenService>[]): Read => ({
  kind: "read-services",
  services: seen.map((one, n) => ({
    id: id("e"),
    name: "e",
    network: id("net"),
    addresses: [`10.0.0.${n + 2}/24`],
    ...one,
  })),
});
const networks = (...seen: readonly Partial<SeenNetwork>[]): Read => ({
  kind: "read-networks",
  networks: seen.map((one, n) => ({
    id: id("net"),
    name: "net",
    driver: "test",
    scope: "global",
    subnets: [{ pool: `10.0.${n}.0/24`, vni: 256 + n }],
    ...one,
  })),
});

const start = [event(0, net), event(2, publish("e")), event(4, box)];

describe("a history that a correct cluster can have", () => {
  it.each<readonly [string, readonly Event[]]>([
    ["everything is seen", [...start, event(6, networks({})), event(6, services({}))]],
    ["what is removed is gone", [...start, event(6, unpublish("e")), event(8, services())]],
    [
      "a removal under way may be seen or not",
      [...start, event(6, unpublish("e"), "ok", 20), event(8, services()), event(9, services({}))],
    ],
    [
      "a removal of which nobody knows may have happened at any later time",
      [...start, event(6, unpublish("e"), "unknown"), event(50, services({})), event(60, services())],
    ],
    [
      "a publish of which nobody knows may show later",
      [event(0, net), event(2, { kind: "publish", network: id("net"), name: "e" }, "unknown"), event(50, services({}))],
    ],
    [
      "an attachment moves",
      [
        ...start,
        event(5, { ...box, id: id("two") }),
        event(6, attach()),
        event(8, detach()),
        event(10, attach("two")),
        event(12, services({ sandbox: id("two") })),
      ],
    ],
    ["another node does not show the sandbox", [...start, event(6, attach()), event(8, services({}), "ok", 9, "b")]],
    [
      "a sandbox goes with its endpoint",
      [
        ...start,
        event(6, attach()),
        event(8, { kind: "remove-sandbox", id: id("box") }),
        event(10, services()),
        event(10, { kind: "read-sandboxes", sandboxes: [] }),
      ],
    ],
    [
      "a name is used again after a removal",
      [...start, event(6, unpublish("e")), event(8, publish("e", "e2")), event(10, services({ id: id("e2") }))],
    ],
    [
      "refused is not done",
      [...start, event(6, unpublish("e"), "refused"), event(7, publish("e", "e2"), "refused"), event(8, services({}))],
    ],
    [
      "one pool in two scopes",
      [
        event(
          6,
          networks(
            {},
            { id: id("l"), name: "l", scope: "local", driver: "bridge", subnets: [{ pool: "10.0.0.0/24" }] },
          ),
        ),
      ],
    ],
  ])("%s", (_, history) => {
    expect(checkHistory(history)).toEqual([]);
  });
});

describe("a history that no correct cluster can have", () => {
  it.each<readonly [RegExp, readonly Event[]]>([
    [/^lost: endpoint/, [...start, event(6, services())]],
    [/^lost: network/, [...start, event(6, networks())]],
    [/^lost: sandbox/, [...start, event(6, { kind: "read-sandboxes", sandboxes: [] })]],
    [/^lost: endpoint/, [...start, event(6, services()), event(8, unpublish("e"))]],
    [/^lost: endpoint/, [...start, event(6, unpublish("e"), "refused"), event(8, services())]],
    [/^removed and there again: endpoint/, [...start, event(6, unpublish("e")), event(8, services({}))]],
    [
      /^removed and there again: network/,
      [...start, event(6, { kind: "remove-network", id: id("net") }), event(8, networks({}))],
    ],
    [
      /^removed and there again: sandbox/,
      [
        ...start,
        event(6, { kind: "remove-sandbox", id: id("box") }),
        event(8, { kind: "read-sandboxes", sandboxes: [id("box")] }),
      ],
    ],
    [/^nobody published/, [...start, event(6, services({}, { id: id("x"), name: "x" }))]],
    [/^network name twice/, [event(6, networks({}, { id: id("other") }))]],
    [
      /^VNI twice/,
      [
        event(
          6,
          networks(
            { subnets: [{ pool: "10.1.0.0/24", vni: 300 }] },
            { name: "two", subnets: [{ pool: "10.2.0.0/24", vni: 300 }] },
          ),
        ),
      ],
    ],
    [
      /^pools overlap/,
      [
        event(
          6,
          networks({ subnets: [{ pool: "10.1.0.0/24" }] }, { name: "two", subnets: [{ pool: "10.1.0.128/25" }] }),
        ),
      ],
    ],
    [/^endpoint name twice/, [...start, event(3, publish("e2")), event(6, services({}, { id: id("e2") }))]],
    [
      /^address twice/,
      [
        ...start,
        event(3, publish("e2")),
        event(6, services({ addresses: ["10.0.0.9/24"] }, { id: id("e2"), name: "e2", addresses: ["10.0.0.9/24"] })),
      ],
    ],
    [/^name twice: endpoint/, [...start, event(6, publish("e", "e2"))]],
    [
      /^name twice: network/,
      [...start, event(6, { ...net, id: id("two") }), event(8, { kind: "remove-network", id: id("net") })],
    ],
    [/^attached twice/, [...start, event(6, attach()), event(8, attach("two"))]],
    [/^attached twice/, [...start, event(6, attach(), "ok", 20), event(8, attach("two"), "ok", 20, "b")]],
    [/^attached twice/, [...start, event(6, attach()), event(8, detach(), "refused"), event(10, attach("two"))]],
    [
      /^attached 3 times/,
      [
        ...start,
        event(6, attach(), "ok", 30),
        event(7, attach("two"), "ok", 30),
        event(8, attach(), "ok", 30),
        event(9, detach(), "ok", 30),
      ],
    ],
    [/^attachment lost/, [...start, event(6, attach()), event(8, services({}))]],
    [/^attachment lost/, [...start, event(6, attach()), event(8, services({ sandbox: id("two") }))]],
    [
      /^detached and attached again/,
      [...start, event(6, attach()), event(8, detach()), event(10, services({ sandbox: id("box") }))],
    ],
    [
      /^attached to nothing/,
      [
        ...start,
        event(6, attach(), "unknown"),
        event(8, { kind: "remove-sandbox", id: id("box") }),
        event(10, services({ sandbox: id("box") })),
      ],
    ],
  ])("%s", (problem, history) => {
    expect(checkHistory(history)).toContainEqual(expect.stringMatching(problem));
  });
});
