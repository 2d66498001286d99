import type { NodeResource } from "../../api/resources.ts";
import { type Command, type CommandGroup, formatFlag, jsonText } from "../command.ts";
import { findNode } from "../lookups.ts";
import { table } from "../table.ts";

/** The store's view; serf's too where it differs: one of them is cut off from that node. */
const stateText = ({ state, serf_status }: NodeResource): string => {
  const agrees = serf_status === undefined || serf_status === state || (state === "gone" && serf_status === "failed");
  return agrees ? state : `${state} (serf: ${serf_status})`;
};

const rttText = ({ rtt_ms }: NodeResource): string =>
  rtt_ms === undefined ? "" : `${rtt_ms < 10 ? rtt_ms.toFixed(2) : rtt_ms.toFixed(0)} ms`;

const ls: Command = {
  name: "ls",
  operands: "",
  count: [0, 0],
  brief: "List all nodes",
  summary: "Lists the nodes of the cluster; the one that answers is marked with *",
  flags: [{ names: ["quiet", "q"], kind: "boolean", help: "Only display node IDs" }, formatFlag],
  examples: ["dnet node ls", "dnet node ls --format json"],
  async run({ client, print, json }, args) {
    const nodes = (await client.call<readonly NodeResource[] | null>("GET", "/nodes")) ?? [];
    if (json) return print(jsonText(nodes));
    if (args.boolean("quiet")) return print(nodes.map(({ id }) => `${id}\n`).join(""));
    const rows = nodes.map((node) => [
      `${node.id}${node.self ? " *" : ""}`,
      node.name,
      node.address,
      stateText(node),
      rttText(node),
      node.version,
    ]);
    print(table(["NODE ID", "NAME", "ADDRESS", "STATE", "RTT", "VERSION"], rows));
  },
};

const info: Command = {
  name: "info",
  operands: "NODE",
  count: [1, 1],
  brief: "Display information about a node",
  summary: "Displays a node of the cluster, given its name or the beginning of its id",
  flags: [formatFlag],
  examples: ["dnet node info host2", "dnet node info 1a2b --format json"],
  async run({ client, print, json }, args) {
    const node = await findNode(client, args.positional[0] ?? "");
    if (json) return print(jsonText(node));
    const lines: readonly (readonly [string, string | undefined])[] = [
      ["Node Id", `${node.id}${node.self ? " (this node)" : ""}`],
      ["Name", node.name],
      ["Address", node.address],
      ["VTEP", node.vtep],
      ["State", stateText(node)],
      ["Since", node.since],
      ["Started", node.started],
      ["Last heartbeat", node.heartbeat],
      ["Version", node.version],
      ["Boot id", node.boot_id],
      ["Serf", node.serf_name && `${node.serf_name} ${node.serf_status ?? ""}`.trimEnd()],
      ["Serf port", node.serf_port?.toString()],
      ["Round trip", rttText(node)],
    ];
    print(lines.flatMap(([name, value]) => (value ? [`${name}: ${value}\n`] : [])).join(""));
  },
};

export const nodeGroup: CommandGroup = { name: "node", summary: "Node management commands", commands: [ls, info] };
