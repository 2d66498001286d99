import { isHere } from "../context.ts";
import { endpointKeys } from "../endpoint-manager.ts";
import type { EndpointRecord } from "../records.ts";
import { type Check, type Finding, type Look, repairCommand } from "./check.ts";

/** Endpoints against the networks, sandboxes and nodes that they name. */
export const claimsCheck: Check = {
  name: "services",
  async run(look) {
    const { state } = look.context;
    const endpoints = [...state.endpoints.values()];
    return [...endpoints.flatMap((endpoint) => lookAt(look, endpoint)), ...claimsOfNodes(look, endpoints)];
  },
  /** Of an endpoint without a network; claims are given back by the reconcile. */
  async repair({ context: { state }, stale, signal }) {
    const done: string[] = [];
    for (const endpoint of [...state.endpoints.values()]) {
      if (state.networks.has(endpoint.network) || state.isUnreadable(endpoint.network)) continue;
      const [key = "", ...guards] = endpointKeys(endpoint);
      for (const scope of ["local", "global"] as const) {
        // Which store holds it, its network would say.
        if (state.version(scope, key) === 0 || (scope === "global" && stale !== undefined)) continue;
        if (await state.commit(scope, { unchanged: [key], deletes: [key, ...guards] }, signal)) {
          done.push(`service ${endpoint.name}: removed, its network is gone`);
        }
      }
    }
    return done;
  },
};

const lookAt = ({ context, context: { state } }: Look, endpoint: EndpointRecord): readonly Finding[] => {
  const { name, network, sandbox } = endpoint;
  if (!state.networks.has(network) && !state.isUnreadable(network)) {
    return [
      {
        code: "service-without-network",
        subject: `service ${name}`,
        what: `its network ${network.slice(0, 12)} is not there`,
        expected: "a network",
        consequence: "it is listed nowhere, and nothing can be attached to it",
        remedy: repairCommand,
        repairable: true,
      },
    ];
  }
  if (!sandbox || !isHere(context, endpoint) || state.sandboxes.has(sandbox.id) || state.isUnreadable(sandbox.id))
    return [];
  return [
    {
      code: "claim-without-container",
      subject: `service ${name}`,
      what: `it is attached to container ${sandbox.container} of this host, which is not there`,
      expected: "no container, or one that is there",
      consequence: "it is attached to nothing, and can be attached to nothing else",
      remedy: `${repairCommand}, or: dnet service unpublish -f`,
      repairable: true,
    },
  ];
};

/** One finding a node: it may have thousands of services. */
const claimsOfNodes = ({ context, nodes, stale }: Look, endpoints: readonly EndpointRecord[]): readonly Finding[] => {
  if (stale !== undefined) return [];
  const foreign = endpoints.filter((endpoint) => endpoint.sandbox && !isHere(context, endpoint));
  return [...Map.groupBy(foreign, ({ sandbox }) => sandbox?.node ?? "")].flatMap(([id, theirs]): readonly Finding[] => {
    const node = nodes.find((other) => other.id === id);
    // One that was stopped in good order has left its containers running.
    if (node && node.state !== "gone") return [];
    const services = `${theirs.length} ${theirs.length === 1 ? "service is" : "services are"} attached there`;
    return [
      {
        code: node ? "claims-of-gone-node" : "claims-of-unknown-node",
        subject: `node ${node ? `${node.name} (${id})` : id}`,
        what: node
          ? `it is gone${node.since === undefined ? "" : ` since ${node.since}`}, and ${services}`
          : `it is not among the nodes, and ${services}`,
        expected: "a node that is alive, or nothing attached there",
        consequence: "if the host is down nobody answers at their addresses, and they can be attached nowhere else",
        remedy: `if the node will not come back: dnet gc ${id}`,
        repairable: false,
      },
    ];
  });
};
