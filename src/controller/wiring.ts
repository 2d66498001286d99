import type { Attachment } from "../drivers/driver.ts";
import type { FirewallPart } from "../linux/firewall.ts";
import { apartAdd, apartIdle, apartRemove, apartRuleset } from "../linux/firewall-apart.ts";
import { spoofAdd, spoofIdle, spoofRemove, spoofRuleset } from "../linux/firewall-spoof.ts";
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

/** A table of family `bridge` that the ports of some sandboxes are in, while they are attached. */
interface PortFilter {
  readonly table: string;
  /** The batches by which an attachment's port comes into it and goes; none where it is not for it. */
  batches(attachment: Attachment): { readonly add: string; readonly remove: string } | undefined;
  /** The batch that makes it as it should be with these attachments. */
  ruleset(attachments: readonly Attachment[]): string;
  /** The batch that makes it as the last port leaves it. */
  readonly idle: string;
}

/** @param table of the host's rules: theirs are named after it */
const portFilters = (table: string): readonly PortFilter[] => {
  const apart = `${table}_apart`;
  return [
    {
      table,
      idle: spoofIdle(table),
      batches: ({ guarded }) => guarded && { add: spoofAdd(table, guarded), remove: spoofRemove(table, guarded) },
      ruleset: (attachments) =>
        spoofRuleset(
          table,
          attachments.flatMap(({ guarded }) => guarded ?? []),
        ),
    },
    {
      table: apart,
      idle: apartIdle(apart),
      batches: ({ apart: kept, hostLink }) =>
        kept && hostLink !== undefined
          ? { add: apartAdd(apart, hostLink), remove: apartRemove(apart, hostLink) }
          : undefined,
      ruleset: (attachments) =>
        apartRuleset(
          apart,
          attachments.flatMap(({ apart: kept, hostLink }) => (kept && hostLink !== undefined ? [hostLink] : [])),
        ),
    },
  ];
};

/** The driver's attachment of an endpoint that a sandbox has claimed, with the rules about frames of its port. */
export const attachmentOf = (context: Context, endpoint: EndpointRecord, sandbox: SandboxRecord): Attachment => {
  const attachment = driversAttachment(context, endpoint, sandbox);
  const { firewallTable: table } = context;
  if (table === undefined) return attachment;
  const batches = portFilters(table).flatMap((filter) => filter.batches(attachment) ?? []);
  if (batches.length === 0) return attachment;
  const add = batches.map(
    ({ add: script, remove: undo }): Operation => ({ op: "nft.apply", namespace: hostNamespace, script, undo }),
  );
  const remove = batches.map(
    ({ remove: script }): Operation => ({ op: "nft.apply", namespace: hostNamespace, script }),
  );
  // Rules exist before the link does, and until it is gone.
  return { ...attachment, attach: plan(...add, attachment.attach), detach: plan(attachment.detach, ...remove) };
};

/** The tables that look at frames of sandboxes' ports, as they follow from the records. */
export const portFilterParts = (context: Context, table: string): readonly FirewallPart[] =>
  portFilters(table).map((filter) => {
    const ruleset = () => filter.ruleset(attachments(context));
    return {
      table: `bridge ${filter.table}`,
      ruleset,
      idle: () => (ruleset() === filter.ruleset([]) ? filter.idle : undefined),
    };
  });

/** Of every endpoint that is attached here. */
const attachments = (context: Context): readonly Attachment[] =>
  [...context.state.endpoints.values()].flatMap((endpoint) => {
    const sandbox = context.state.sandboxes.get(endpoint.sandbox?.id ?? "");
    const network = context.state.networks.get(endpoint.network);
    if (!sandbox || !network || !usableDriver(context, network)) return [];
    return [driversAttachment(context, endpoint, sandbox)];
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
    for (const via of driversAttachment(context, endpoint, sandbox).gateways) {
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
    ...[...after].flatMap(([family, route]) => {
      const old = before.get(family);
      if (old?.device === route.device) return [];
      const add = routeOperation("route.add", namespace, family, route);
      return old ? [routeOperation("route.delete", namespace, family, old), add] : [add];
    }),
  );
};

/**
 * Makes what a sandbox is wired with match its records, whatever is there. Rules about its ports are there already, with those of
 * all others: at a start they are made in one piece.
 */
export const rewirePlan = (context: Context, endpoints: readonly EndpointRecord[], sandbox: SandboxRecord): Plan =>
  plan(
    ...endpoints.map((endpoint) => driversAttachment(context, endpoint, sandbox).attach),
    defaultRoutePlan(context, endpoints, sandbox),
  );

/**
 * Makes a sandbox's default routes those of its endpoints, whatever they are now: a crash may have come between two of them, and an
 * endpoint that carries one need not be the last that joined.
 */
export const defaultRoutePlan = (
  context: Context,
  endpoints: readonly EndpointRecord[],
  sandbox: SandboxRecord,
): Plan => {
  const namespace = namespaceOf(context, sandbox);
  const wanted = defaultRoutes(context, endpoints, sandbox);
  const others = endpoints.flatMap((endpoint) =>
    driversAttachment(context, endpoint, sandbox).gateways.flatMap((via): Operation[] => {
      const route = { via, device: endpoint.sandbox?.interface ?? "eth0" };
      const family = familyOf(via);
      return wanted.get(family)?.device === route.device
        ? []
        : [routeOperation("route.delete", namespace, family, route)];
    }),
  );
  return plan(
    ...others,
    ...[...wanted].map(([family, route]) => routeOperation("route.add", namespace, family, route)),
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
