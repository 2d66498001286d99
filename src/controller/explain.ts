import { describe } from "../linux/describe.ts";
import { firewallAdd } from "../linux/firewall.ts";
import { narrate } from "../linux/narrate.ts";
import { hostNamespace, type Operation, type Plan, plan } from "../linux/plan.ts";
import {
  type Context,
  driverNetwork,
  driverOf,
  isHere,
  requireEndpoint,
  requireNetwork,
  requireSandbox,
} from "./context.ts";
import type { Presence } from "./presence.ts";
import type { EndpointRecord } from "./records.ts";
import { attachPlan, sandboxPlan } from "./wiring.ts";

/** The kernel objects that make something up on this host, as the planner sees them: what a start would make or repair. */

/** Operations that are shown; a network may have entries for ten thousand endpoints elsewhere. */
const limit = 2_000;

export interface ExplainedOperation {
  /** In a few words. */
  readonly what: string;
  /** Kind of operation: `link.add`. */
  readonly operation: string;
  /** Shell commands that do the same, one a line. */
  readonly command: string;
}

export interface Explanation {
  readonly operations: readonly ExplainedOperation[];
  /** How many more there are. */
  readonly omitted: number;
  /** Why there is nothing here, or less than one might think. */
  readonly note?: string;
}

export type ExplainSubject = "network" | "endpoint" | "sandbox";

const explained = (work: Plan, note?: string): Explanation => ({
  operations: work.slice(0, limit).map((operation) => ({
    what: narrate(operation),
    operation: operation.op,
    command: describe(operation),
  })),
  omitted: Math.max(0, work.length - limit),
  ...(note !== undefined && { note }),
});

/** @throws NetworkError (not found) where there is no such object */
export const explain = (context: Context, presence: Presence, subject: ExplainSubject, id: string): Explanation => {
  switch (subject) {
    case "network":
      return explainNetwork(context, presence, id);
    case "endpoint":
      return explainEndpoint(context, presence, id);
    case "sandbox":
      return explainSandbox(context, id);
  }
};

const explainNetwork = (context: Context, presence: Presence, id: string): Explanation => {
  const network = requireNetwork(context, id);
  const driver = driverOf(context, network.driver);
  const view = driverNetwork(context, network);
  const part = driver.firewall(view);
  const table = context.firewallTable;
  const rules: readonly Operation[] =
    part && table !== undefined
      ? [{ op: "nft.apply", namespace: hostNamespace, script: firewallAdd(table, part) }]
      : [];
  const here = driver.presence === undefined || presence.networks().some((other) => other.id === id);
  const work = plan(...rules, driver.createNetwork(view), here ? presence.plan(network) : plan());
  if (!here) return explained(work, `nothing: no endpoint of network ${network.name} is attached on this host`);
  return explained(work, work.length === 0 ? `driver ${network.driver} makes no objects of its own` : undefined);
};

const explainEndpoint = (context: Context, presence: Presence, id: string): Explanation => {
  const endpoint = requireEndpoint(context, id);
  if (!endpoint.sandbox) return explained(plan(), `nothing: service ${endpoint.name} is attached to no container`);
  const sandbox = context.state.sandboxes.get(endpoint.sandbox.id);
  if (isHere(context, endpoint) && sandbox) {
    const before = context.state.endpointsIn(sandbox.id).filter((other) => order(other) < order(endpoint));
    return explained(attachPlan(context, endpoint, before, sandbox));
  }
  const where = `service ${endpoint.name} is attached on node ${context.nodeName(endpoint.sandbox.node)}`;
  const work = presence.peerPlan(endpoint);
  return explained(work, work.length > 0 ? `${where}: this host knows the way there` : `nothing here: ${where}`);
};

const order = ({ sandbox }: EndpointRecord): number => sandbox?.order ?? 0;

const explainSandbox = (context: Context, id: string): Explanation => {
  const sandbox = requireSandbox(context, id);
  const endpoints = [...context.state.endpointsIn(id)].sort((a, b) => order(a) - order(b));
  const wiring = endpoints.map((endpoint, n) => attachPlan(context, endpoint, endpoints.slice(0, n), sandbox));
  return explained(plan(sandboxPlan(context, sandbox), ...wiring));
};
