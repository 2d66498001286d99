import { prefixFamily } from "../net/prefix.ts";
import type { FirewallNetwork, FirewallPart } from "./firewall.ts";
import { apartRules } from "./firewall-apart.ts";
import { elementsOf, modeOf } from "./firewall-elements.ts";
import { type Chain, chains, type Rule, sets } from "./firewall-rules.ts";
import { spoofRules } from "./firewall-spoof.ts";

/** The rules that matter to somebody, and why, for people. */

export interface ExplainedRule {
  readonly chain: string;
  /** Where the kernel calls the chain; absent for one that others jump to. */
  readonly hook?: string;
  readonly rule: string;
  readonly reason: string;
}

export interface ExplainedElement {
  readonly set: string;
  readonly element: string;
  readonly purpose: string;
}

export interface Explanation {
  /** What follows from it all, in sentences. */
  readonly summary: readonly string[];
  readonly elements: readonly ExplainedElement[];
  readonly rules: readonly ExplainedRule[];
}

const explained = (wanted: (rule: Rule, chain: Chain) => boolean): readonly ExplainedRule[] =>
  chains.flatMap((chain) =>
    chain.rules
      .filter((rule) => wanted(rule, chain))
      .map(({ match, verdict, reason }) => ({
        chain: chain.name,
        ...(chain.hook !== undefined && { hook: chain.hook }),
        rule: `${match} ${verdict}`.trim(),
        reason,
      })),
  );

const outside: Readonly<Record<string, string>> = {
  nat: "from outside only published ports are reached, at this host's addresses",
  "nat-unprotected": "from outside every port is reached by whoever has a route",
  routed: "from outside pings and published ports are reached, at the sandbox's own address",
};

const subnetSentences = (network: FirewallNetwork): readonly string[] =>
  network.subnets.map((subnet) => {
    const family = prefixFamily(subnet);
    const mode = modeOf(network, family);
    const nat = network.masquerade && mode.startsWith("nat");
    const source = nat ? (network.source?.[family] ?? "this host's address") : "its own addresses";
    return `${subnet}: mode ${mode}; traffic leaves with ${source}; ${outside[mode] ?? outside.nat}`;
  });

const networkSummary = (network: FirewallNetwork): readonly string[] => {
  const trusted = network.trusted ?? [];
  return [
    ...(network.internal
      ? [`${network.subnets.join(", ")}: internal; nothing leaves and nothing comes in`]
      : subnetSentences(network)),
    `sandboxes of the network ${network.icc ? "reach" : "do not reach"} each other; those of other networks never`,
    ...(network.antiSpoofing ? ["its sandboxes cannot forge addresses"] : []),
    ...(trusted.length > 0 && !network.internal ? [`from ${trusted.join(", ")} every port is reached`] : []),
  ];
};

/** What a network puts into the sets, and the rules that can decide about its packets. */
export const explainNetwork = (network: FirewallNetwork): Explanation => ({
  summary: networkSummary(network),
  elements: elementsOf(network).map(({ set, key, value }) => ({
    set,
    element: value === undefined ? key : `${key} : ${value}`,
    purpose: sets.find(({ name }) => name === set)?.purpose ?? "",
  })),
  rules: [
    ...explained((rule) => rule.concerns(network)),
    ...(network.icc ? [] : apartRules),
    ...(network.antiSpoofing ? spoofRules : []),
  ],
});

/** What part of the rules say of one port of this host. */
export interface PortExplanation extends Explanation {
  /** NAT leads it on: the forward chain accepts it for that. */
  readonly translated: boolean;
  /** It is reached at the sandbox's own address, too. */
  readonly routed: boolean;
}

/** Chains in the order in which a packet meets them. */
const order: readonly string[] = [
  "prerouting",
  "output",
  "publish4",
  "publish6",
  "forward",
  "published",
  "postrouting",
  "relay",
];

/** What happens to a packet that is sent to a port of this host; undefined where nobody publishes it. */
export const explainPort = (
  port: number,
  protocol: "tcp" | "udp" | "sctp",
  parts: readonly FirewallPart[],
): (Explanation & { readonly tables: readonly string[] }) | undefined => {
  const found = parts.flatMap((part) => {
    const explanation = part.explainPort?.(port, protocol);
    return explanation ? [{ ...explanation, table: part.table }] : [];
  });
  if (found.length === 0) return undefined;
  const [translated, routed] = [found.some((each) => each.translated), found.some((each) => each.routed)];
  const accepts = ({ verdict, match }: Rule, { name }: Chain): boolean =>
    name === "published" ? (match.includes("@reachable") ? routed : translated) : verdict === "jump published";
  const rules = [...found.flatMap((each) => each.rules), ...(translated || routed ? explained(accepts) : [])];
  return {
    summary: found.flatMap(({ summary }) => summary),
    elements: found.flatMap(({ elements }) => elements),
    rules: rules.toSorted((a, b) => order.indexOf(a.chain) - order.indexOf(b.chain)),
    tables: found.map(({ table }) => table),
  };
};
