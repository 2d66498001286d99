import type { ClusterNode } from "../../cluster/merge-nodes.ts";
import { type Check, type Finding, Unlooked } from "./check.ts";

/** Milliseconds by which a node's clock may differ, beside the age that its last heartbeat may have. */
const mostSkew = 10_000;
/** Milliseconds between heartbeats at most, as another node may be configured. A clock that is slow is seen by the others as ours being fast. */
const heartbeatAge = 3_600_000;

/** The other nodes: whether they can be reached, and whether their clocks tell the same time. */
export const nodesCheck: Check = {
  name: "nodes",
  async run({ nodes, stale, now }) {
    if (stale !== undefined) throw new Unlooked(`the shared store: ${stale}`);
    const others = nodes.filter(({ self }) => !self);
    return others.flatMap((node) => [...clockOf(node, now()), ...gossipOf(node, nodes)]);
  },
};

const nameOf = ({ name, id }: ClusterNode): string => `node ${name} (${id})`;

/** Leases are the store's, and clocks decide nothing; but people compare logs, and certificates expire. */
const clockOf = (node: ClusterNode, now: number): readonly Finding[] => {
  if (node.state !== "alive" || node.heartbeat === undefined) return [];
  const ahead = Date.parse(node.heartbeat) - now;
  if (ahead <= mostSkew && ahead >= -(mostSkew + heartbeatAge)) return [];
  return [
    {
      code: "clock-skew",
      subject: nameOf(node),
      what: `its last heartbeat is of ${node.heartbeat}: ${Math.round(Math.abs(ahead) / 1_000)} s ${ahead > 0 ? "in the future" : "ago"}`,
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
