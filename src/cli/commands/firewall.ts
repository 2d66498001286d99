import type { FirewallResource, NetworkResource } from "../../api/resources.ts";
import { type Client, ClientError } from "../client.ts";
import { type Command, type CommandGroup, formatFlag, jsonText } from "../command.ts";
import { findNetwork } from "../lookups.ts";

const portPattern = /^(\d{1,5})(?:\/(tcp|udp|sctp))?$/;

/** A network of that name, else a port, else a network by the beginning of its id. */
const explanation = async (client: Client, text: string): Promise<FirewallResource> => {
  const [, port, protocol = "tcp"] = portPattern.exec(text) ?? [];
  if (port !== undefined) {
    const named = await client.call<readonly NetworkResource[] | null>("GET", `/networks?name=${port}`);
    const isNetwork = protocol === "tcp" && (named ?? []).some(({ name }) => name === text);
    if (!isNetwork) return client.call("GET", `/firewall/ports/${port}?protocol=${protocol}`);
  }
  const { id } = await findNetwork(client, text);
  return client.call("GET", `/firewall/networks/${id}`);
};

const section = (title: string, lines: readonly string[]): string =>
  lines.length === 0 ? "" : `\n${title}\n${lines.join("")}`;

const text = ({ table, tables = [], summary, elements, rules }: FirewallResource): string => {
  const width = Math.max(0, ...elements.map(({ set }) => set.length));
  let chain = "";
  const ruleLines = rules.map(({ chain: name, hook, rule, reason }) => {
    const head = name === chain ? "" : `  chain ${name}${hook === undefined ? "" : ` (${hook.replace(/;.*/, "")})`}\n`;
    chain = name;
    return `${head}    ${rule}\n      # ${reason}\n`;
  });
  return [
    ...summary.map((line) => `${line}\n`),
    section(
      `In the sets of table ${tables[0] ?? table}:`,
      elements.map(({ set, element, purpose }) => `  ${set.padEnd(width)}  ${element}\n      # ${purpose}\n`),
    ),
    section("Rules that can decide about its packets, in the order of the chains:", ruleLines),
    rules.some(({ chain: name }) => name !== "relay")
      ? `\nThe whole: ${[...tables, table].map((name) => `nft list table ${name}`).join("; ")}\n`
      : "",
  ].join("");
};

const explain: Command = {
  name: "explain",
  operands: "NETWORK|PORT[/PROTOCOL]",
  count: [1, 1],
  brief: "Show the rules that matter and why",
  summary: "Shows what the firewall does for a network or a port of this host: its rules, and the reason of each",
  flags: [formatFlag],
  examples: ["dnet firewall explain web", "dnet firewall explain 8080/tcp", "dnet firewall explain web --format json"],
  async run({ client, print, json }, args) {
    const found = await explanation(client, args.positional[0] ?? "");
    // The original's daemon answers such a path in its own way.
    if (!Array.isArray(found.summary)) throw new ClientError("this daemon does not explain its firewall");
    print(json ? jsonText(found) : text(found));
  },
};

export const firewallGroup: CommandGroup = {
  name: "firewall",
  summary: "firewall of this host",
  commands: [explain],
};
