import { errorText } from "../../errors.ts";
import type { Operation } from "../../linux/plan.ts";
import { plan } from "../../linux/plan.ts";
import { neighborWarning } from "../host-conditions.ts";
import type { Check, Finding, Look } from "./check.ts";
import { probeName } from "./orphans.ts";

/** The host: what drivers need of the kernel, its settings and limits. */
export const hostCheck: Check = {
  name: "host",
  run: async (look) => [...(await features(look)), ...(await neighbours(look)), ...(await descriptors(look))],
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

const neighbours = async ({ context: { kernel }, signal }: Look): Promise<readonly Finding[]> =>
  (await kernel.neighborTables(signal)).flatMap((table): readonly Finding[] => {
    const what = neighborWarning(table);
    if (what === undefined) return [];
    const { family, limit } = table;
    return [
      {
        code: "neighbour-table-full",
        subject: "host",
        what,
        expected: `room in the table: less than four fifths of ${limit} entries`,
        consequence: "containers lose connections when it is full",
        remedy: `sysctl -w net.ipv${family}.neigh.default.gc_thresh3=${limit * 4}`,
        repairable: false,
      },
    ];
  });

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
