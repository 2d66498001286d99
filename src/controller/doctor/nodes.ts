import type { ClusterNode } from "../../cluster/merge-nodes.ts";
import { aliveKey, nodeKey } from "../../cluster/node-record.ts";
import type { Store } from "../../store/store.ts";
import { type Check, type Finding, Unlooked } from "./check.ts";

/** Milliseconds by which a node's clock may differ, beside the age that its last heartbeat may have. */
const mostSkew = 10_000;
/** Milliseconds between heartbeats at most, as another node may be configured. A clock that is slow is seen by the others as ours being fast. */
const heartbeatAge = 3_600_000;

/** The other nodes: whether they can be reached, and whether their clocks tell the same time. */
export const nodesCheck: Check = {
  name: "nodes",
  async run({ nodes, stale, now, stores }) {
    if (stale !== undefined) throw new Unlooked(`the shared store: ${stale}`);
    const others = nodes.filter(({ self }) => !self);
    const lease = await leaseOf(
      stores.global,
      nodes.find(({ self }) => self),
    );
    return [...lease, ...others.flatMap((node) => [...clockOf(node, now()), ...gossipOf(node, nodes)])];
  },
};

/** This node's own sign of life in the shared store, which goes with its lease: by the store's clock, not by ours. */
const leaseOf = async (store: Store, self: ClusterNode | undefined): Promise<readonly Finding[]> => {
  if (!self || !(await store.get(nodeKey(self.id))) || (await store.get(aliveKey(self.id)))) return [];
  return [
    {
      code: "lease-lost",
      subject: nameOf(self),
      what: "the shared store has no sign of life of this node: its lease has ended",
      expected: "a lease that is renewed in time",
      consequence: "other nodes take this one for gone, and dnet gc may take its services",
      remedy:
        "it registers again by itself within seconds; where this lasts, look for pauses of this host or of the store in both logs",
      repairable: false,
    },
  ];
};

const nameOf = ({ name, id }: ClusterNode): string => `node ${name} (${id})`;

/** Leases are the store's, and clocks decide nothing; but people compare logs, and certificates expire. */
const clockOf = (node: ClusterNode, now: number): readonly Finding[] => {
  if (node.state !== "alive" || node.heartbeat === undefined) return [];
  const ahead = node.skew ?? Date.parse(node.heartbeat) - now;
  if (ahead <= mostSkew && ahead >= -(node.skew === undefined ? mostSkew + heartbeatAge : mostSkew)) return [];
  return [
    {
      code: "clock-skew",
      subject: nameOf(node),
      what:
        node.skew === undefined
          ? `its last heartbeat is of ${node.heartbeat}: ${Math.round(Math.abs(ahead) / 1_000)} s ${ahead > 0 ? "in the future" : "ago"}`
          : `its clock is ${Math.round(Math.abs(ahead) / 1_000)} s ${ahead > 0 ? "ahead of" : "behind"} this node's`,
      expected: "clocks that differ by seconds at most",
      consequence: "times in logs and in dnet node ls mislead; certificates may count as not yet or no longer valid",
      remedy: "see the clocks of both hosts with: timedatectl",
      repairable: false,
    },
  ];
};

/** The store says that it is alive, and the gossip does not reach it: of the ways between hosts, that is one that is seen. */
const gossipOf = (node: ClusterNode, nodes: readonly ClusterNode[]): readonly Finding[] => {
  const self = nodes.find((other) => other.self);
  if (node.state !== "alive" || self?.serf === undefined) return [];
  const { serf } = node;
  if (serf?.status === "alive" || (serf === undefined && node.serfPort === undefined)) return [];
  const port = node.serfPort ?? 7946;
  return [
    {
      code: "gossip-unreachable",
      subject: nameOf(node),
      what: serf
        ? `serf says that it is ${serf.status}, the store that it is alive`
        : "it is no member of the gossip here",
      expected: "a member that is alive",
      consequence: `this host and ${node.address} may not reach each other: then packets between their containers are lost`,
      remedy: `let port ${port} (TCP and UDP) and port 4789 (UDP) through between the hosts; try with: ping ${node.vtep ?? node.address}`,
      repairable: false,
    },
  ];
};
