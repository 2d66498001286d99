import { hostname } from "node:os";
import type { ClusterNode } from "../cluster/merge-nodes.ts";
import { notFound } from "../errors.ts";
import { type Ip, tryParseIp } from "../net/ip.ts";
import type { NodeResource } from "./resources.ts";
import type { Route } from "./routes.ts";

/** Where the API learns of the nodes; `Cluster` is one. */
export interface NodeProvider {
  nodes(): readonly ClusterNode[];
}

/** For a daemon without a cluster: this node alone. @param instance the daemon's, empty where it is not known */
export const loneNode = (instance: string, version: string): NodeProvider => {
  const node: ClusterNode = {
    id: instance,
    name: hostname(),
    address: tryParseIp("127.0.0.1") ?? ("127.0.0.1" as Ip),
    version,
    state: "alive",
    self: true,
  };
  return { nodes: () => [node] };
};

export const nodeResource = (node: ClusterNode): NodeResource => ({
  id: node.id,
  name: node.name,
  address: node.address,
  state: node.state,
  version: node.version,
  self: node.self,
  ...(node.vtep !== undefined && { vtep: node.vtep }),
  ...(node.since !== undefined && { since: node.since }),
  ...(node.started !== undefined && { started: node.started }),
  ...(node.heartbeat !== undefined && { heartbeat: node.heartbeat }),
  ...(node.bootId !== undefined && { boot_id: node.bootId }),
  ...(node.serfPort !== undefined && { serf_port: node.serfPort }),
  ...(node.serf !== undefined && { serf_name: node.serf.name, serf_status: node.serf.status }),
  ...(node.rtt !== undefined && { rtt_ms: Number(node.rtt.toFixed(3)) }),
});

export const nodeRoutes: readonly Route[] = [
  {
    method: "GET",
    path: "/nodes",
    status: 200,
    shared: true,
    run: ({ nodes }) => nodes.nodes().map(nodeResource),
  },
  {
    method: "GET",
    path: "/nodes/:id",
    status: 200,
    shared: true,
    run: ({ nodes, params }) => {
      const found = nodes.nodes().find(({ id }) => id === params.id);
      if (!found) throw notFound("no-node", "Resource not found: Node");
      return nodeResource(found);
    },
  },
];
