import type { ClusterNode } from "../cluster/merge-nodes.ts";
import { aliveKey, nodeKey } from "../cluster/node-record.ts";
import { forbidden, noService, notFound, shown } from "../errors.ts";
import type { Store } from "../store/store.ts";
import type { Context } from "./context.ts";
import { endpointKeys } from "./endpoint-manager.ts";
import type { Presence } from "./presence.ts";
import { type EndpointRecord, keys } from "./records.ts";

/** What nodes that will not come back have left in the shared store. */

export interface GarbageRequest {
  /** Ids or names; without any, every node that is gone or left is looked at, and nothing is removed. */
  readonly nodes: readonly string[];
  /** Services that are attached there go too; else they are only detached. */
  readonly endpoints: boolean;
  /** Says what would be removed, and removes nothing. */
  readonly dryRun: boolean;
}

export interface Garbage {
  /** Id of the node. */
  readonly node: string;
  readonly name: string;
  readonly kind: "node" | "claim" | "service";
  /** In words: `service db of network web: detached from container c1`. */
  readonly what: string;
}

export interface GarbageReport {
  readonly removed: boolean;
  readonly garbage: readonly Garbage[];
}

export interface GarbageParts {
  readonly context: Context;
  readonly presence: Presence;
  /** The shared store. */
  readonly store: Store;
  readonly nodes: readonly ClusterNode[];
  readonly stale: string | undefined;
  readonly signal?: AbortSignal;
}

interface Subject {
  readonly id: string;
  readonly name: string;
}

/** How often a claim is read anew when another node changes it meanwhile. */
const attempts = 16;

/**
 * Removes the records of nodes that will not come back. Never of one that is alive: that is checked in the transaction.
 * @throws NetworkError `no-node` (not found), `node-alive` (forbidden), `store-unavailable`
 */
export const collectGarbage = async (parts: GarbageParts, request: GarbageRequest): Promise<GarbageReport> => {
  if (parts.stale !== undefined) {
    throw noService("store-unavailable", "the global store does not answer", { hint: parts.stale });
  }
  const removes = !request.dryRun && request.nodes.length > 0;
  const subjects =
    request.nodes.length > 0
      ? [
          ...new Map(
            request.nodes.map((text) => subjectOf(parts, text)).map((subject) => [subject.id, subject]),
          ).values(),
        ]
      : parts.nodes.filter(({ state, self }) => !self && state !== "alive");
  const garbage: Garbage[] = [];
  for (const { id, name } of subjects) {
    const node = { id, name };
    if (removes) await refuseAlive(parts, node);
    for (const endpoint of endpointsOn(parts, id)) {
      if (!removes || (await release(parts, node, endpoint, request.endpoints))) {
        garbage.push(ofEndpoint(parts, node, endpoint, request.endpoints));
      }
    }
    if (await forget(parts, node, removes))
      garbage.push({ node: id, name, kind: "node", what: "the record of the node" });
  }
  return { removed: removes, garbage };
};

const subjectOf = ({ nodes, context }: GarbageParts, text: string): Subject => {
  const found = nodes.filter(({ id, name }) => id === text || name === text);
  const [node] = found;
  if (found.length > 1) {
    throw forbidden("node-ambiguous", `${shown(text)} is the name of ${found.length} nodes`, {
      hint: `give an id: ${found.map(({ id }) => id).join(", ")}`,
    });
  }
  if (node) {
    if (node.self || node.state === "alive") throw alive(node);
    return node;
  }
  // Its record may be gone already, and its claims not.
  const claims = [...context.state.endpoints.values()].some(({ sandbox }) => sandbox?.node === text);
  if (claims && text !== context.instance) return { id: text, name: text };
  throw notFound("no-node", "Resource not found: Node");
};

const alive = ({ id, name }: Subject) =>
  forbidden("node-alive", `node ${name} (${id}) is alive`, {
    hint: "only nodes that are gone or have left can be collected; stop its daemon first",
  });

/** The cluster's view may be seconds old; the store's lease is what counts. */
const refuseAlive = async ({ store, signal }: GarbageParts, node: Subject): Promise<void> => {
  if (await store.get(aliveKey(node.id), signal)) throw alive(node);
};

const endpointsOn = ({ context }: GarbageParts, node: string): readonly EndpointRecord[] =>
  [...context.state.endpoints.values()].filter(({ sandbox }) => sandbox?.node === node);

const ofEndpoint = ({ context }: GarbageParts, node: Subject, endpoint: EndpointRecord, whole: boolean): Garbage => {
  const network = context.state.networks.get(endpoint.network)?.name ?? endpoint.network.slice(0, 12);
  const did = whole ? "removed" : "detached";
  return {
    node: node.id,
    name: node.name,
    kind: whole ? "service" : "claim",
    what: `service ${endpoint.name} of network ${network}: ${did} from container ${endpoint.sandbox?.container}`,
  };
};

/** Gives an endpoint back, or removes it. @returns false where another node has changed it so that nothing is to be done */
const release = async (
  { context, presence, signal }: GarbageParts,
  node: Subject,
  found: EndpointRecord,
  whole: boolean,
): Promise<boolean> => {
  const { state, locks } = context;
  const key = keys.endpoint(found.network, found.id);
  return locks.hold([`endpoint:${found.id}`], async () => {
    for (let attempt = 0; attempt < attempts; attempt++) {
      const before = state.endpoints.get(found.id);
      const scope = state.networks.get(found.network)?.scope ?? "global";
      if (before?.sandbox?.node !== node.id) return false;
      const { sandbox: _claim, ...free } = before;
      const change = whole ? { deletes: endpointKeys(before) } : { puts: [{ key, value: free }] };
      if (!(await state.commit(scope, { unchanged: [key], ...change }, signal))) continue;
      const changes = { before, ...(!whole && { after: free }) };
      await presence.follow({ networks: [], endpoints: [changes] });
      await context.naming.changed(changes.after, before);
      return true;
    }
    return false;
  });
};

/** @returns whether there is a record of the node */
const forget = async ({ store, signal }: GarbageParts, node: Subject, removes: boolean): Promise<boolean> => {
  const record = await store.get(nodeKey(node.id), signal);
  if (!record || !removes) return record !== undefined;
  const result = await store.transact(
    {
      checks: [
        { key: record.key, version: record.version },
        { key: aliveKey(node.id), version: 0 },
      ],
      deletes: [record.key],
    },
    signal,
  );
  if (!result.ok) throw alive(node);
  return true;
};
