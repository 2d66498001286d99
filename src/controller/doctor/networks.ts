import { errorText } from "../../errors.ts";
import { hostNamespace, type Operation, plan } from "../../linux/plan.ts";
import { type Context, driverNetwork, driverOf } from "../context.ts";
import type { NetworkRecord } from "../records.ts";
import type { Check, Finding, Look } from "./check.ts";
import { findingsOf } from "./of-unmet.ts";
import { type Unmet, unmet } from "./unmet.ts";

/** What networks have on this host: bridges with their addresses, overlays' namespaces with what is in them, peers. */
export const networksCheck: Check = {
  name: "networks",
  async run(look) {
    const findings: Finding[] = [];
    for (const network of [...look.context.state.networks.values()]) findings.push(...(await lookAt(look, network)));
    return findings;
  },
};

const lookAt = async (look: Look, network: NetworkRecord): Promise<readonly Finding[]> => {
  const { context, presence, signal } = look;
  const subject = `network ${network.name}`;
  let work: readonly Operation[];
  try {
    work = expected(context, network, presence.networks().some(({ id }) => id === network.id) ? presence : undefined);
  } catch (error) {
    return [unusable(subject, network, errorText(error))];
  }
  const found = [
    ...(await unmet({ kernel: context.kernel, probe: look.probe }, work, signal)),
    ...(await noTables(look, work)),
  ];
  return findingsOf(subject, found, consequence);
};

const expected = (context: Context, network: NetworkRecord, presence: Look["presence"] | undefined) => {
  const driver = driverOf(context, network.driver);
  const view = driverNetwork(context, network);
  driver.checkNetwork(view);
  return plan(driver.createNetwork(view), presence?.plan(network) ?? []);
};

const unusable = (subject: string, network: NetworkRecord, reason: string): Finding => ({
  code: "unusable-network",
  subject,
  what: reason,
  expected: `a driver ${network.driver} that takes the network's record`,
  consequence: "what the network has in the kernel stays as it is; no service can join it or leave it on this host",
  remedy: "use a dnet that has the driver, or remove the network",
  repairable: false,
});

/** Tables that a plan's rules make; what is in them is not compared here. */
const noTables = async ({ probe, signal }: Look, work: readonly Operation[]): Promise<readonly Unmet[]> => {
  const wanted = work.flatMap((operation) =>
    operation.op === "nft.apply" && operation.namespace === hostNamespace
      ? tablesOf(operation.script).map((table) => ({ operation, table }))
      : [],
  );
  if (wanted.length === 0) return [];
  const tables = new Set(await probe.tables(signal));
  const missing = wanted.filter(({ table }) => !tables.has(table));
  return [...new Map(missing.map((one) => [one.table, one])).values()].map(({ operation, table }) => ({
    operation,
    found: `there is no table ${table}`,
  }));
};

/** Names of the tables that a script adds: `inet t`. */
export const tablesOf = (script: string): readonly string[] =>
  [...script.matchAll(/^add table (\S+ \S+)/gm)].map(([, table = ""]) => table);

const consequence = (operation: Operation): string => {
  switch (operation.op) {
    case "neighbor.add":
    case "fdb.add":
      return "packets to that service on another host are lost";
    case "sysctl.set":
      return operation.key.endsWith("forward") || operation.key.endsWith("forwarding")
        ? "nothing is routed out of the network"
        : "the interface behaves otherwise than networks of ours should";
    case "address.add":
      return "containers do not reach their gateway: no way out of the network";
    case "nft.apply":
      return "whoever reaches the VXLAN port can inject frames into the network";
    default:
      return "containers of the network do not reach each other on this host, or not the outside";
  }
};
