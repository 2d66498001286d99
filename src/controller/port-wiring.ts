import { type Plan, plan } from "../linux/plan.ts";
import { type Family, familyOf, type Ip } from "../net/ip.ts";
import { addressOf, prefixFamily, prefixOf } from "../net/prefix.ts";
import type { Context } from "./context.ts";
import type { PortTarget, PortTargets } from "./port-forwards.ts";
import { noPortChange, type PortChange } from "./port-publisher.ts";
import type { EndpointRecord, SandboxRecord } from "./records.ts";
import { attachmentOf, byPriority } from "./wiring.ts";

/** How a sandbox's published ports follow its endpoints. */

/** Where a sandbox's ports lead: the endpoints of its default routes, where their driver lets the host's NAT in. */
export const portTargets = (
  context: Context,
  endpoints: readonly EndpointRecord[],
  sandbox: SandboxRecord,
): PortTargets => {
  const targets: { 4?: PortTarget; 6?: PortTarget; hostAddress?: Ip; routed?: boolean } = {};
  const seen = new Set<Family>();
  for (const endpoint of [...endpoints].sort(byPriority)) {
    const { gateways, publish } = attachmentOf(context, endpoint, sandbox);
    for (const family of gateways.map(familyOf)) {
      if (seen.has(family)) continue;
      seen.add(family);
      const address = endpoint.addresses.find((own) => prefixFamily(own) === family);
      if (!publish || address === undefined) continue;
      targets[family] = { address: addressOf(address), subnet: prefixOf(address) };
      if (publish.routed) targets.routed = true;
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

/**
 * Applies a plan with the change of the ports in it; where it changes tables of the firewall's parts, while nobody compares the
 * ruleset with what it should be.
 * @param alone the plan changes such tables itself
 */
export const applyWithPorts = (
  context: Context,
  ports: PortChange,
  apply: (led: Plan) => Promise<void>,
  alone: boolean,
): Promise<void> =>
  ports === noPortChange && !alone ? apply(plan()) : context.firewall.exclusive(() => apply(ports.plan()));

/** Takes an endpoint out of its sandbox; ports that it carried lead to those that are left, or nowhere. */
export const takeDown = async (
  context: Context,
  work: () => Plan,
  place: { readonly left: readonly EndpointRecord[]; readonly sandbox: SandboxRecord; readonly alone: boolean },
): Promise<void> => {
  const ports = await leavePorts(context, place.left, place.sandbox);
  try {
    await applyWithPorts(context, ports, (led) => context.kernel.teardown(plan(led, work())), place.alone);
  } finally {
    await ports.settle();
  }
};
