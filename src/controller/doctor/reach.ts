import type { ClusterNode } from "../../cluster/merge-nodes.ts";
import type { Ip } from "../../net/ip.ts";
import { addressOf } from "../../net/prefix.ts";
import { isHere, namespaceOf } from "../context.ts";
import { type Check, type Finding, type Look, Unlooked } from "./check.ts";

/** Nodes that are tried in one examination, and how many of them at once: one that does not answer takes 3 s. */
const most = 128;
const atOnce = 16;
/** Services of a node that are asked before it counts as out of reach: a container may be made to answer nobody. */
const services = 3;

/** A container here and a service on another host, of one network. */
interface Pair {
  readonly container: string;
  readonly namespace: string;
  readonly service: string;
  readonly address: Ip;
}

/**
 * Whether encapsulated packets get to other hosts and back: nothing answers on the port of VXLAN itself, but containers do. One of
 * this host sends an echo to services that are attached there; any answer shows both ways.
 */
export const reachCheck: Check = {
  name: "reach",
  async run(look) {
    const work = look.nodes
      .filter(({ self, state }) => !self && state === "alive")
      .flatMap((node) => {
        const pairs = pairsWith(look, node);
        return pairs.length > 0 ? [{ node, pairs }] : [];
      })
      .slice(0, most);
    const findings: Finding[] = [];
    for (let n = 0; n < work.length; n += atOnce) {
      const part = work.slice(n, n + atOnce);
      findings.push(...(await Promise.all(part.map((one) => tryNode(look, one.node, one.pairs)))).flat());
    }
    return findings;
  },
};

const pairsWith = ({ context, presence }: Look, node: ClusterNode): readonly Pair[] => {
  const { state } = context;
  const pairs: Pair[] = [];
  for (const { id } of presence.networks()) {
    const endpoints = state.endpointsOf(id);
    const own = endpoints.find((endpoint) => isHere(context, endpoint));
    const sandbox = state.sandboxes.get(own?.sandbox?.id ?? "");
    if (!sandbox) continue;
    for (const { sandbox: there, name: service, addresses } of endpoints) {
      const [first] = addresses;
      if (there?.node !== node.id || first === undefined || pairs.length === services) continue;
      const namespace = namespaceOf(context, sandbox);
      pairs.push({ container: sandbox.container, namespace, service, address: addressOf(first) });
    }
  }
  return pairs;
};

const tryNode = async (
  { probe, context: { host }, signal }: Look,
  node: ClusterNode,
  pairs: readonly Pair[],
): Promise<readonly Finding[]> => {
  const answers = await Promise.all(pairs.map(({ namespace, address }) => probe.answers(namespace, address, signal)));
  if (answers.includes(true)) return [];
  if (answers.includes(undefined)) throw new Unlooked("ping(8) cannot be run (package iputils-ping)");
  const [first] = pairs;
  const asked = pairs.map(({ service, address }) => `${service} (${address})`).join(", ");
  const there = node.vtep ?? node.address;
  return [
    {
      code: "vxlan-unreachable",
      subject: `node ${node.name} (${node.id})`,
      what: `no answer to an echo from container ${first?.container}: ${asked}`,
      expected: "an answer, over the overlay network",
      consequence: `packets between containers of this host and of ${there} are lost`,
      remedy: `let UDP port 4789 through between ${host?.vtep} and ${there}, both ways, in both hosts' firewalls and on the way; then: dnet trace ${first?.container} ${first?.address} --ping. It is no fault where those containers drop echoes themselves`,
      repairable: false,
    },
  ];
};
