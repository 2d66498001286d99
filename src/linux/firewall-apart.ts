import { quoteInterface } from "./firewall-elements.ts";
import type { ExplainedRule } from "./firewall-explain.ts";

/**
 * Sandboxes that are kept apart from their neighbours and publish ports: a table of family `bridge` that drops what goes to them and from
 * them inside of the bridge. With br_netfilter the host's NAT happens there too, and what it leads to a neighbour goes from port to port
 * like any frame; the kernel's own isolation of ports, which the others have, would drop it. Such packets are told by a mark that they get
 * where they were translated, and that no sandbox can give: it does not survive the way between namespaces.
 */

/** `dnet` in ASCII: the mark of packets that NAT leads to a sandbox of such a network. It takes the place of no mark, never of another's. */
export const apartMark = "0x646e6574";

const hook = "type filter hook forward priority -200; policy accept;";

/** Links of sandboxes have names like these; an interface of the host that somebody put into the bridge has not. */
const sandboxes = '"veth*"';
const rules: readonly (readonly [rule: string, reason: string])[] = [
  [
    `iifname ${sandboxes} oifname @apart meta mark != ${apartMark} counter drop`,
    "no neighbour reaches it, but by its published ports",
  ],
  [
    `iifname @apart oifname ${sandboxes} meta mark != ${apartMark} counter drop`,
    "nor does it reach a neighbour, but to answer, and by published ports",
  ],
];

const skeleton = (table: string): string => `table bridge ${table} {
  comment "dnet: sandboxes with published ports that are kept apart"
  set apart { type ifname; comment "their ports of the bridge"; }
  chain forward {
    ${hook}
  }
}
flush chain bridge ${table} forward
${rules.map(([rule, reason]) => `add rule bridge ${table} forward ${rule} comment "${reason}"\n`).join("")}`;

const change = (verb: "add" | "delete", table: string, ports: readonly string[]): string =>
  ports.length === 0 ? "" : `${verb} element bridge ${table} apart { ${ports.map(quoteInterface).join(", ")} }\n`;

/** The batch that keeps a port apart from now on; it may be repeated, and brings the rule along. */
export const apartAdd = (table: string, port: string): string => `${skeleton(table)}${change("add", table, [port])}`;

/** The batch that lets a port go, whatever of it is there. */
export const apartRemove = (table: string, port: string): string =>
  `${apartAdd(table, port)}${change("delete", table, [port])}`;

/** The batch that replaces the table by one for these ports; without any, by none. */
export const apartRuleset = (table: string, ports: readonly string[]): string => {
  const clear = `add table bridge ${table}\ndelete table bridge ${table}\n`;
  return ports.length === 0 ? clear : `${clear}${skeleton(table)}${change("add", table, ports)}`;
};

/** The batch that makes the table as the last port leaves it. */
export const apartIdle = (table: string): string => `${apartRuleset(table, [])}${skeleton(table)}`;

/** For people. */
export const apartRules: readonly ExplainedRule[] = rules.map(([rule, reason]) => ({
  chain: "bridge forward",
  hook,
  rule,
  reason,
}));
