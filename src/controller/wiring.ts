import type { Attachment } from "../drivers/driver.ts";
import { hostNamespace, type Operation, type Plan, plan } from "../linux/plan.ts";
import { type Family, familyOf, type Ip } from "../net/ip.ts";
import { addressOf, parsePrefix, prefixFamily, prefixOf } from "../net/prefix.ts";
import {
  type Context,
  driverEndpoint,
  driverNetwork,
  driverOf,
  namespaceKey,
  namespaceOf,
  requireNetwork,
} from "./context.ts";
import type { PortTarget, PortTargets } from "./port-forwards.ts";
import { noPortChange, type PortChange } from "./port-publisher.ts";
import type { EndpointRecord, SandboxRecord } from "./records.ts";

/** How endpoints are wired into sandboxes: the driver's part, and the default routes, which are the sandbox's. */

const everywhere = { 4: parsePrefix("0.0.0.0/0"), 6: parsePrefix("::/0") } as const;

/** The driver's attachment of an endpoint that a sandbox has claimed. */
export const attachmentOf = (context: Context, endpoint: EndpointRecord, sandbox: SandboxRecord): Attachment => {
  const network = requireNetwork(context, endpoint.network);
  return driverOf(context, network.driver).attach(driverNetwork(context, network), driverEndpoint(context, endpoint), {
    id: sandbox.id,
    namespace: namespaceOf(context, sandbox),
    interfaceName: endpoint.sandbox?.interface ?? "eth0",
    ...((sandbox.ports ?? []).length > 0 && { ports: true }),
  });
};

interface DefaultRoute {
  readonly via: Ip;
  readonly device: string;
}

/** The default routes of a sandbox, at most one a family: the first endpoint to join that has a gateway carries it. */
export const defaultRoutes = (
  context: Context,
  endpoints: readonly EndpointRecord[],
  sandbox: SandboxRecord,
): ReadonlyMap<Family, DefaultRoute> => {
  const routes = new Map<Family, DefaultRoute>();
  for (const endpoint of endpoints) {
    for (const via of attachmentOf(context, endpoint, sandbox).gateways) {
      const family = familyOf(via);
      if (!routes.has(family)) routes.set(family, { via, device: endpoint.sandbox?.interface ?? "eth0" });
    }
  }
  return routes;
};

/** Where a sandbox's ports lead: the endpoints of its default routes, where their driver lets the host's NAT in. */
export const portTargets = (
  context: Context,
  endpoints: readonly EndpointRecord[],
  sandbox: SandboxRecord,
): PortTargets => {
  const targets: { 4?: PortTarget; 6?: PortTarget; hostAddress?: Ip } = {};
  const seen = new Set<Family>();
  for (const endpoint of endpoints) {
    const { gateways, publish } = attachmentOf(context, endpoint, sandbox);
    for (const family of gateways.map(familyOf)) {
      if (seen.has(family)) continue;
      seen.add(family);
      const address = endpoint.addresses.find((own) => prefixFamily(own) === family);
      if (!publish || address === undefined) continue;
      targets[family] = { address: addressOf(address), subnet: prefixOf(address) };
      if (family === 4 && publish.hostAddress !== undefined) targets.hostAddress = publish.hostAddress;
    }
  }
  return targets;
};

/** Prepares that a sandbox's ports lead to what these endpoints make of them. */
export const joinPorts = async (
  context: Context,
  endpoints: readonly EndpointRecord[],
  sandbox: SandboxRecord,
  signal?: AbortSignal,
): Promise<PortChange> =>
  context.ports && sandbox.ports
    ? context.ports.prepare(sandbox, portTargets(context, endpoints, sandbox), signal)
    : noPortChange;

/** The same after another endpoint left; it does not fail. */
export const leavePorts = async (
  context: Context,
  endpoints: readonly EndpointRecord[],
  sandbox: SandboxRecord,
): Promise<PortChange> =>
  context.ports && sandbox.ports
    ? context.ports.prepareLeave(sandbox, portTargets(context, endpoints, sandbox))
    : noPortChange;

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

/** Brings one endpoint into its sandbox; `others` are those attached before it. */
export const attachPlan = (
  context: Context,
  endpoint: EndpointRecord,
  others: readonly EndpointRecord[],
  sandbox: SandboxRecord,
): Plan => {
  const before = defaultRoutes(context, others, sandbox);
  const after = defaultRoutes(context, [...others, endpoint], sandbox);
  const namespace = namespaceOf(context, sandbox);
  return plan(
    attachmentOf(context, endpoint, sandbox).attach,
    ...[...after].flatMap(([family, route]) =>
      before.has(family) ? [] : [routeOperation("route.add", namespace, family, route)],
    ),
  );
};

/** Takes one endpoint out of its sandbox; where it carried the default route, the next one carries it. */
export const detachPlan = (
  context: Context,
  endpoint: EndpointRecord,
  others: readonly EndpointRecord[],
  sandbox: SandboxRecord,
): Plan => {
  const before = defaultRoutes(context, [...others, endpoint].sort(byOrder), sandbox);
  const after = defaultRoutes(context, others, sandbox);
  const namespace = namespaceOf(context, sandbox);
  const moved = [...after].filter(([family, route]) => before.get(family)?.device !== route.device);
  return plan(
    attachmentOf(context, endpoint, sandbox).detach,
    ...moved.map(([family, route]) => routeOperation("route.add", namespace, family, route)),
  );
};

const byOrder = (a: EndpointRecord, b: EndpointRecord) => (a.sandbox?.order ?? 0) - (b.sandbox?.order ?? 0);

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
