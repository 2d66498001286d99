import { describe, expect, it } from "vitest";
import { parseIp } from "../net/ip.ts";
import { type ClusterNode, mergeNodes, type NodeSources } from "./merge-nodes.ts";
import type { NodeInfo } from "./node-record.ts";
import type { Member, MemberStatus } from "./serf/messages.ts";

const self: ClusterNode = {
  id: "00000001",
  name: "h1",
  address: parseIp("10.0.0.1"),
  version: "1",
  state: "alive",
  self: true,
};
const stored = (id: string, more: Partial<NodeInfo> = {}): NodeInfo => ({
  id,
  name: `h${id.slice(-1)}`,
  address: parseIp("10.0.0.9"),
  dnetVersion: "1",
  started: "2026-01-01T00:00:00Z",
  bootId: "b",
  state: "alive",
  since: "2026-01-01T00:00:00Z",
  ...more,
});
const member = (id: string, status: MemberStatus, more: Partial<Member> = {}): Member => ({
  name: `h-${id}`,
  address: parseIp("10.0.0.8"),
  port: 7946,
  status,
  tags: { id, host: "hx", dnet: "2" },
  ...more,
});
const merged = (sources: Partial<NodeSources>) =>
  mergeNodes({ self, stored: [], members: [], following: true, rtt: () => 1.5, ...sources });
const brief = (sources: Partial<NodeSources>) =>
  merged(sources).map(({ id, state, serf, rtt }) => [id, state, serf?.status, rtt]);

describe("the nodes of a cluster", () => {
  it("are at least this one, which is alive whatever the others say", () => {
    expect(brief({})).toEqual([["00000001", "alive", undefined, undefined]]);
    const nodes = [stored("00000001", { state: "gone", heartbeat: "2026-01-01T00:00:09Z" })];
    expect(merged({ stored: [{ nodes, lost: false }], members: [member("00000001", "failed")] })).toEqual([
      { ...self, heartbeat: "2026-01-01T00:00:09Z", serf: { name: "h-00000001", status: "failed" } },
    ]);
  });

  it("are as the store says, with serf's word beside it", () => {
    const nodes = [stored("00000002"), stored("00000003", { state: "gone" }), stored("00000004", { state: "left" })];
    const members = [member("00000002", "failed"), member("00000003", "alive"), member("00000004", "left")];
    expect(brief({ stored: [{ nodes, lost: false }], members })).toEqual([
      ["00000001", "alive", undefined, undefined],
      ["00000002", "alive", "failed", undefined],
      ["00000003", "gone", "alive", 1.5],
      ["00000004", "left", "left", undefined],
    ]);
  });

  it("are as serf says while the store does not answer, unless serf does not either", () => {
    const nodes = [stored("00000002"), stored("00000003")];
    const members = [member("00000002", "failed")];
    const states = (following: boolean) =>
      merged({ stored: [{ nodes, lost: true }], members, following }).map(({ state, since }) => [state, since]);
    expect(states(true).slice(1)).toEqual([
      ["gone", undefined],
      ["alive", "2026-01-01T00:00:00Z"],
    ]);
    expect(states(false).slice(1)).toEqual([
      ["alive", "2026-01-01T00:00:00Z"],
      ["alive", "2026-01-01T00:00:00Z"],
    ]);
  });

  it("without a store are the members that dnet runs", () => {
    const members = [
      member("00000005", "failed", { name: "old" }),
      member("00000005", "alive", {
        name: "new",
        tags: { id: "00000005", host: "h5\u001b", dnet: "2", vtep: "10.9.0.5" },
      }),
      member("not an id", "alive"),
      { ...member("", "alive"), tags: {} },
    ];
    expect(merged({ members })).toEqual([
      self,
      {
        id: "00000005",
        name: "new",
        address: "10.0.0.8",
        vtep: "10.9.0.5",
        version: "2",
        state: "alive",
        serfPort: 7946,
        self: false,
        serf: { name: "new", status: "alive" },
        rtt: 1.5,
      },
    ]);
  });
});
