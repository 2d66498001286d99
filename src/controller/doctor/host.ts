import { errorText } from "../../errors.ts";
import type { Operation } from "../../linux/plan.ts";
import { hostNamespace, plan } from "../../linux/plan.ts";
import { prefixCovers } from "../../net/prefix.ts";
import { overlapping, routeText } from "../host-conditions.ts";
import { fullTables, neighborWarning, raiseLimit } from "../neighbor-limit.ts";
import {
  blockedNetworks,
  bridgedNetworks,
  dockerBridge,
  ownSubnets,
  sharedWithDocker,
  shareRemedy,
} from "../other-programs.ts";
import type { Check, Finding, Look } from "./check.ts";
import { probeName } from "./orphans.ts";

/** The host: what drivers need of the kernel, its settings and limits. */
export const hostCheck: Check = {
  name: "host",
  run: async (look) => [
    ...(await features(look)),
    ...(await neighbours(look)),
    ...(await descriptors(look)),
    ...(await blocked(look)),
    ...(await shared(look)),
    ...(await routes(look)),
  ],
};

interface Feature {
  readonly name: string;
  readonly module: string;
  readonly need: string;
  readonly operations: (namespace: string) => readonly Operation[];
}

const link = (namespace: string, spec: Extract<Operation, { op: "link.add" }>["link"]): Operation => ({
  op: "link.add",
  namespace,
  link: spec,
});

const featuresNeeded: readonly Feature[] = [
  {
    name: "bridges",
    module: "bridge",
    need: "networks of the drivers bridge and overlay",
    operations: (namespace) => [link(namespace, { kind: "bridge", name: "br0" })],
  },
  {
    name: "veth pairs",
    module: "veth",
    need: "containers",
    operations: (namespace) => [link(namespace, { kind: "veth", name: "veth0", peer: { name: "veth1", namespace } })],
  },
  {
    name: "VXLAN devices",
    module: "vxlan",
    need: "networks of the driver overlay",
    operations: (namespace) => [link(namespace, { kind: "vxlan", name: "vxlan1", vni: 256, port: 4789 })],
  },
  {
    name: "nftables with NAT",
    module: "nf_tables and nft_chain_nat",
    need: "the way out, isolation and resolvers",
    operations: (namespace) => [
      {
        op: "nft.apply",
        namespace,
        script:
          "add table inet probe\nadd chain inet probe out { type nat hook postrouting priority srcnat; }\nadd rule inet probe out masquerade\n",
      },
    ],
  },
];

/** Tried, not looked up: a module may be built in, loaded on demand, or forbidden. In a namespace that goes at once. */
const features = async ({ context: { kernel, namespaceDir }, context, signal }: Look): Promise<readonly Finding[]> => {
  const namespace = `${namespaceDir}/${probeName(context)}`;
  const findings: Finding[] = [];
  await kernel.apply(plan({ op: "namespace.add", path: namespace }), signal);
  try {
    for (const { name, module, need, operations } of featuresNeeded) {
      try {
        await kernel.apply(plan(...operations(namespace)), signal);
      } catch (error) {
        signal?.throwIfAborted();
        findings.push({
          code: "kernel-feature",
          subject: "host",
          what: `the kernel makes no ${name}: ${errorText(error)}`,
          expected: `${name}, for ${need}`,
          consequence: `${need} do not work on this host`,
          remedy: `load what is missing (modprobe ${module.split(" ")[0]}), or use a kernel that has it`,
          repairable: false,
        });
      }
    }
  } finally {
    await kernel.teardown(plan({ op: "namespace.delete", path: namespace }));
  }
  return findings;
};

const neighbours = async ({ context: { kernel }, presence, signal }: Look): Promise<readonly Finding[]> =>
  (await fullTables(kernel, () => presence.namespaces(), signal)).map((table) => ({
    code: "neighbour-table-full",
    subject: "host",
    what: neighborWarning(table),
    expected: `room in the table: less than four fifths of ${table.limit} entries`,
    consequence: "containers lose connections when it is full",
    remedy: raiseLimit(table),
    repairable: false,
  }));

/** Descriptors beside those of sandboxes: stores, sockets of the API, the kernel worker's. */
const ownDescriptors = 128;
/** A resolver has one socket for UDP and one for TCP, and as much again while it asks others. */
const perSandbox = 4;

/** For as many sandboxes. */
export const descriptorsNeeded = (sandboxes: number): number => ownDescriptors + sandboxes * perSandbox;

const descriptors = async ({ context: { state }, probe }: Look): Promise<readonly Finding[]> => {
  const limits = await probe.read("/proc/self/limits");
  const limit = Number(/^Max open files\s+(\d+)/m.exec(limits ?? "")?.[1] ?? Number.POSITIVE_INFINITY);
  const needed = descriptorsNeeded(state.sandboxes.size);
  if (limit >= needed) return [];
  return [
    {
      code: "few-descriptors",
      subject: "daemon",
      what: `it may open ${limit} files`,
      expected: `${needed} for ${state.sandboxes.size} containers`,
      consequence: "resolvers of containers do not start, and the API refuses connections",
      remedy: "start the daemon with a higher limit: LimitNOFILE= of systemd, or ulimit -n",
      repairable: false,
    },
  ];
};

/** A chain of another program that drops what goes through the host: nothing that our rules accept passes it. */
const blocked = async ({ context, signal }: Look): Promise<readonly Finding[]> => {
  if (context.firewallTable === undefined) return [];
  const found = await blockedNetworks(context.kernel, bridgedNetworks(context), signal);
  return found.map(({ network, drop, commands }) => ({
    code: "forward-dropped",
    subject: `network ${network.name}`,
    what: `chain ${drop.chain} of another program drops what this host forwards, and has no rule that accepts ${network.bridge}`,
    expected: "a rule in it that lets the bridge through, in both directions",
    consequence:
      "containers of the network reach nothing outside, and its published ports are not reached from outside",
    remedy: commands,
    repairable: false,
  }));
};

const shared = async ({ context, probe }: Look): Promise<readonly Finding[]> => {
  const network = await sharedWithDocker(probe, bridgedNetworks(context));
  if (!network) return [];
  return [
    {
      code: "shared-bridge",
      subject: `network ${network.name}`,
      what: `it is on ${dockerBridge}, and Docker is on this host`,
      expected: `a bridge of its own: Docker uses the ${dockerBridge} that it finds`,
      consequence: "Docker and dnet give the same addresses to their containers on it",
      remedy: shareRemedy(network, context.defaultNetwork),
      repairable: false,
    },
  ];
};

/** Routes to a subnet of ours, or to a part of it. To more than that leads many a VPN's: there the longer prefix is ours, and the log says it. */
const routes = async ({ context, signal }: Look): Promise<readonly Finding[]> => {
  const host = await context.kernel.observe(hostNamespace, signal);
  return overlapping(host?.routes ?? [], ownSubnets(context))
    .filter(({ route, subnet }) => prefixCovers(subnet.pool, route.to))
    .map(({ route, subnet }) => ({
      code: "overlapping-route",
      subject: `network ${subnet.network}`,
      what: `the host's route ${routeText(route)} leads elsewhere what is for ${subnet.pool}`,
      expected: "no other route to the network's subnet",
      consequence: "containers of the network are not reached, or what is behind the route is not",
      remedy: "remove the route, or make the network with another --subnet",
      repairable: false,
    }));
};
