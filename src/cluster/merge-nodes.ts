import type { Ip } from "../net/ip.ts";
import { tryParseIp } from "../net/ip.ts";
import { type NodeInfo, type NodeState, nodeIdSchema } from "./node-record.ts";
import type { Member, MemberStatus } from "./serf/messages.ts";

/** A node of the cluster: what the store says of it, and what serf does. */
export interface ClusterNode {
  /** Eight hex digits: the daemon's instance. */
  readonly id: string;
  readonly name: string;
  readonly address: Ip;
  readonly vtep?: Ip;
  /** Version of its dnet. */
  readonly version: string;
  readonly state: NodeState;
  /** ISO time since when it is in this state, where it is known. */
  readonly since?: string;
  readonly started?: string;
  readonly heartbeat?: string;
  /** Milliseconds by which its clock is ahead of this node's; negative where it is behind. */
  readonly skew?: number;
  readonly bootId?: string;
  readonly serfPort?: number;
  /** True for the node that answers. */
  readonly self: boolean;
  readonly serf?: { readonly name: string; readonly status: MemberStatus };
  /** Round-trip time from this node as serf estimates it, in milliseconds. */
  readonly rtt?: number;
}

/** Tags of a serf agent that dnet runs. */
export interface NodeTags {
  readonly id: string;
  readonly host: string;
  readonly dnet: string;
  readonly vtep?: string;
}

export interface NodeSources {
  readonly self: ClusterNode;
  /** Of each store, the one that counts more first. */
  readonly stored: readonly { readonly nodes: readonly NodeInfo[]; readonly lost: boolean }[];
  readonly members: readonly Member[];
  /** False where the members are those of an earlier look. */
  readonly following: boolean;
  readonly rtt: (member: string) => number | undefined;
}

const rank: Readonly<Record<MemberStatus, number>> = { alive: 4, leaving: 3, failed: 2, left: 1, none: 0 };
const stateOf: Readonly<Record<MemberStatus, NodeState>> = {
  alive: "alive",
  leaving: "alive",
  failed: "gone",
  none: "gone",
  left: "left",
};

/**
 * One list of all nodes, in order of name and id. The store decides who is alive; where it does not answer, or does not know a node,
 * serf does. Members without our tags are somebody else's agents and are no nodes.
 */
export const mergeNodes = ({ self, stored, members, following, rtt }: NodeSources): readonly ClusterNode[] => {
  const byId = new Map<string, Member>();
  for (const member of members) {
    const id = nodeIdSchema.safeParse(member.tags.id).data;
    const known = id === undefined ? undefined : byId.get(id);
    if (id !== undefined && (!known || rank[member.status] > rank[known.status])) byId.set(id, member);
  }
  const nodes = new Map<string, ClusterNode>();
  for (const { nodes: infos, lost } of stored) {
    for (const info of infos) {
      if (nodes.has(info.id)) continue;
      const member = byId.get(info.id);
      const doubtful = lost && following && member !== undefined && stateOf[member.status] !== info.state;
      const { dnetVersion, since, ...rest } = info;
      const state = doubtful ? stateOf[member.status] : info.state;
      nodes.set(info.id, { ...rest, version: dnetVersion, self: false, state, ...(!doubtful && { since }) });
    }
  }
  for (const [id, member] of byId) if (!nodes.has(id)) nodes.set(id, ofMember(id, member));
  // Of itself a node knows best.
  const own = nodes.get(self.id);
  nodes.set(self.id, { ...self, ...(own?.heartbeat !== undefined && { heartbeat: own.heartbeat }) });
  return [...nodes.values()]
    .map((node) => withSerf(node, following ? byId.get(node.id) : undefined, rtt))
    .sort((a, b) => (a.name === b.name ? (a.id < b.id ? -1 : 1) : a.name < b.name ? -1 : 1));
};

const ofMember = (id: string, member: Member): ClusterNode => {
  const vtep = tryParseIp(member.tags.vtep ?? "");
  return {
    id,
    name: shownTag(member.tags.host) || member.name,
    address: member.address,
    ...(vtep !== undefined && { vtep }),
    version: shownTag(member.tags.dnet),
    state: stateOf[member.status],
    serfPort: member.port,
    self: false,
  };
};

/** A tag is another host's text and goes to terminals. */
const shownTag = (text = ""): string => (/^[\x21-\x7e]*$/.test(text) ? text.slice(0, 64) : "");

const withSerf = (
  node: ClusterNode,
  member: Member | undefined,
  rtt: (member: string) => number | undefined,
): ClusterNode => {
  if (!member) return node;
  const time = node.self || member.status !== "alive" ? undefined : rtt(member.name);
  return {
    ...node,
    serf: { name: member.name, status: member.status },
    ...(time !== undefined && { rtt: time }),
  };
};
