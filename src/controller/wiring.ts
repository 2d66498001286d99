import type { Attachment } from "../drivers/driver.ts";
import type { FirewallPart } from "../linux/firewall.ts";
import { spoofAdd, spoofRemove, spoofRuleset } from "../linux/firewall-spoof.ts";
import { hostNamespace, type Operation, type Plan, plan } from "../linux/plan.ts";
import { type Family, familyOf, type Ip } from "../net/ip.ts";
import { parsePrefix } from "../net/prefix.ts";
import {
  type Context,
  driverEndpoint,
  driverNetwork,
  driverOf,
  namespaceKey,
  namespaceOf,
  requireHost,
  requireNetwork,
  usableDriver,
} from "./context.ts";
import type { EndpointRecord, SandboxRecord } from "./records.ts";

/** How endpoints are wired into sandboxes: the driver's part, and the default routes, which are the sandbox's. */

const everywhere = { 4: parsePrefix("0.0.0.0/0"), 6: parsePrefix("::/0") } as const;

/** The driver's attachment of an endpoint that a sandbox has claimed, with the rules that keep it from forging addresses. */
export const attachmentOf = (context: Context, endpoint: EndpointRecord, sandbox: SandboxRecord): Attachment => {
  const attachment = driversAttachment(context, endpoint, sandbox);
  const { guarded } = attachment;
  const { firewallTable: table } = context;
  if (!guarded || table === undefined) return attachment;
  const [add, remove] = [spoofAdd(table, guarded), spoofRemove(table, guarded)];
  return {
    ...attachment,
    // Rules exist before the link does, and until it is gone.
    attach: plan({ op: "nft.apply", namespace: hostNamespace, script: add, undo: remove }, attachment.attach),
    detach: plan(attachment.detach, { op: "nft.apply", namespace: hostNamespace, script: remove }),
  };
};

/** The table of sandboxes that may not forge addresses, as it follows from the records. */
export const spoofPart = (context: Context, table: string): FirewallPart => ({
  table: `bridge ${table}`,
  ruleset: () => {
    const ports = [...context.state.endpoints.values()].flatMap((endpoint) => {
      const sandbox = context.state.sandboxes.get(endpoint.sandbox?.id ?? "");
      const network = context.state.networks.get(endpoint.network);
      if (!sandbox || !network || !usableDriver(context, network)) return [];
      return driversAttachment(context, endpoint, sandbox).guarded ?? [];
    });
    return spoofRuleset(table, ports);
  },
});

const driversAttachment = (context: Context, endpoint: EndpointRecord, sandbox: SandboxRecord): Attachment => {
  const network = context.state.knownNetwork(endpoint.network) ?? requireNetwork(context, endpoint.network);
  const place = {
    id: sandbox.id,
    namespace: namespaceOf(context, sandbox),
    interfaceName: endpoint.sandbox?.interface ?? "eth0",
    ...((sandbox.ports ?? []).length > 0 && { ports: true }),
  };
  const driver = driverOf(context, network.driver);
  const host = driver.presence && requireHost(context, network);
  return driver.attach(driverNetwork(context, network), driverEndpoint(context, endpoint), place, host);
};

interface DefaultRoute {
  readonly via: Ip;
  readonly device: string;
}

/**
 * The default routes of a sandbox, at most one a family. Of the endpoints that have a gateway the one with the highest priority
 * carries it, among equals the first that joined.
 */
export const defaultRoutes = (
  context: Context,
  endpoints: readonly EndpointRecord[],
  sandbox: SandboxRecord,
): ReadonlyMap<Family, DefaultRoute> => {
  const routes = new Map<Family, DefaultRoute>();
  for (const endpoint of [...endpoints].sort(byPriority)) {
    for (const via of attachmentOf(context, endpoint, sandbox).gateways) {
      const family = familyOf(via);
      if (!routes.has(family)) routes.set(family, { via, device: endpoint.sandbox?.interface ?? "eth0" });
    }
  }
  return routes;
};

const routeOperation = (
  op: "route.add" | "route.delete",
  namespace: string,
  family: Family,
  route: DefaultRoute,
): Operation => ({
  op,
  namespace,
  route: { to: everywhere[family], via: route.via, device: route.device },
});

/**
 * Brings one endpoint into its sandbox; `others` are those attached before it.
 * @param guarded its rules are there already, with all others': at a start they are made in one piece
 */
export const attachPlan = (
  context: Context,
  endpoint: EndpointRecord,
  others: readonly EndpointRecord[],
  sandbox: SandboxRecord,
  guarded = false,
): Plan => {
  const before = defaultRoutes(context, others, sandbox);
  const after = defaultRoutes(context, [...others, endpoint], sandbox);
  const namespace = namespaceOf(context, sandbox);
  return plan(
    (guarded ? driversAttachment : attachmentOf)(context, endpoint, sandbox).attach,
    ...[...after].flatMap(([family, route]) => {
      const old = before.get(family);
      if (old?.device === route.device) return [];
      const add = routeOperation("route.add", namespace, family, route);
      return old ? [routeOperation("route.delete", namespace, family, old), add] : [add];
    }),
  );
};

/** Takes one endpoint out of its sandbox; where it carried the default route, the next one carries it. */
export const detachPlan = (
  context: Context,
  endpoint: EndpointRecord,
  others: readonly EndpointRecord[],
  sandbox: SandboxRecord,
): Plan => {
  const before = defaultRoutes(context, [...others, endpoint], sandbox);
  const after = defaultRoutes(context, others, sandbox);
  const namespace = namespaceOf(context, sandbox);
  const moved = [...after].filter(([family, route]) => before.get(family)?.device !== route.device);
  return plan(
    attachmentOf(context, endpoint, sandbox).detach,
    ...moved.map(([family, route]) => routeOperation("route.add", namespace, family, route)),
  );
};

/** The endpoints of a sandbox in the order in which they are asked for its default route. */
export const byPriority = ({ sandbox: a }: EndpointRecord, { sandbox: b }: EndpointRecord): number =>
  (b?.priority ?? 0) - (a?.priority ?? 0) || (a?.order ?? 0) - (b?.order ?? 0);

/** The namespace of a sandbox, ready for its first interface. */
export const sandboxPlan = (context: Context, sandbox: SandboxRecord): Plan => {
  const path = namespaceKey(context, sandbox);
  // The host's own stack has a path too, so that `nsenter --net=KEY` works for every sandbox.
  if (sandbox.host) return plan({ op: "namespace.add", path, of: hostNamespace });
  return plan(
    { op: "namespace.add", path },
    // Interfaces start without IPv6; an endpoint with an IPv6 address turns it on for its own (CVE-2024-32473).
    { op: "sysctl.set", namespace: path, key: "net/ipv6/conf/default/disable_ipv6", value: "1" },
  );
};
