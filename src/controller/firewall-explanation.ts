import { badRequest } from "../errors.ts";
import { type Explanation, explainNetwork, explainPort } from "../linux/firewall-explain.ts";
import type { PortProtocol } from "../linux/firewall-ports.ts";
import { type Context, driverNetwork, usableDriver } from "./context.ts";
import type { FirewallExplanation } from "./model.ts";
import type { NetworkRecord } from "./records.ts";

/** The rules and elements that matter for a network's packets, and why. */
export const explainNetworkRules = (context: Context, record: NetworkRecord): FirewallExplanation => {
  const part = usableDriver(context, record)?.firewall(driverNetwork(context, record));
  const none = { summary: [`driver ${record.driver} needs no rules on this host`], elements: [], rules: [] };
  return explanation(context, part ? explainNetwork(part) : none);
};

/** The same for what is sent to a port of the host. @throws NetworkError `invalid-port` */
export const explainPortRules = async (
  context: Context,
  port: number,
  protocol: PortProtocol,
  signal?: AbortSignal,
): Promise<FirewallExplanation> => {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    throw badRequest("invalid-port", `invalid port: ${port} is not between 1 and 65535`);
  }
  const { firewall, kernel, ports } = context;
  const found = explainPort(port, protocol, firewall.parts);
  if (found) return explanation(context, found);
  const owner = await kernel.portOwner(protocol, port, signal);
  const waiting = ports?.waitingFor(port, protocol) ?? [];
  const summary = [
    `no container publishes port ${port}/${protocol}: these rules do not filter what is sent to it`,
    owner === undefined ? "no program of this host has it, as far as can be told" : `${owner} has it`,
    ...waiting.map(
      (container) =>
        `container ${container} asks for it, and gets it when it is attached to a network that lets ports in`,
    ),
  ];
  return explanation(context, { summary, elements: [], rules: [] });
};

const explanation = ({ firewallTable: table }: Context, found: Explanation): FirewallExplanation => {
  if (table !== undefined) return { backend: "nftables", table: `inet ${table}`, ...found };
  const summary = ['firewall = "none": packets are left alone, there are no rules'];
  return { backend: "none", summary, elements: [], rules: [] };
};
