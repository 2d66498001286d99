import { errorText } from "../../errors.ts";
import { type Operation, plan } from "../../linux/plan.ts";
import { parsePrefix } from "../../net/prefix.ts";
import { type Context, namespaceOf } from "../context.ts";
import type { SandboxRecord } from "../records.ts";
import { attachmentOf, defaultRoutes, sandboxPlan } from "../wiring.ts";
import { type Check, type Finding, type Look, repairCommand } from "./check.ts";
import { findingsOf } from "./of-unmet.ts";
import { unmet } from "./unmet.ts";

/** Sandboxes of this host: their namespaces, interfaces, addresses and routes. */
export const sandboxesCheck: Check = {
  name: "containers",
  async run(look) {
    const findings: Finding[] = [];
    for (const sandbox of [...look.context.state.sandboxes.values()]) findings.push(...(await lookAt(look, sandbox)));
    return findings;
  },
};

const lookAt = async (look: Look, sandbox: SandboxRecord): Promise<readonly Finding[]> => {
  const { context, signal } = look;
  const subject = `container ${sandbox.container}`;
  if (sandbox.removing) return [halfRemoved(subject)];
  if (!sandbox.host && !(await context.kernel.observe(namespaceOf(context, sandbox), signal))) {
    return [noNamespace(subject, namespaceOf(context, sandbox))];
  }
  try {
    return findingsOf(
      subject,
      await unmet({ kernel: context.kernel, probe: look.probe }, expected(context, sandbox), signal),
      consequence,
    );
  } catch (error) {
    signal?.throwIfAborted();
    return [unplanned(subject, errorText(error))];
  }
};

const noNamespace = (subject: string, path: string): Finding => ({
  code: "no-namespace",
  subject,
  what: `there is no network namespace at ${path}`,
  expected: "the container's network namespace",
  consequence: "the container has no network, and its services answer nowhere",
  remedy: `${repairCommand} removes its records, as nothing can run in it any more; then create it anew`,
  repairable: true,
});

const halfRemoved = (subject: string): Finding => ({
  code: "half-removed",
  subject,
  what: "its removal has begun and was interrupted",
  expected: "no record of it",
  consequence: "it has lost services that other nodes know too",
  remedy: `${repairCommand}, or the next start, goes on with the removal; so does: dnet container rm`,
  repairable: true,
});

const unplanned = (subject: string, reason: string): Finding => ({
  code: "unusable-container",
  subject,
  what: `its wiring cannot be planned: ${reason}`,
  expected: "records that a driver can make interfaces of",
  consequence: "what it has of that network in the kernel stays as it is, and is not looked after",
  remedy: "look at what else this report says of its networks and services",
  repairable: false,
});

/** What the sandbox's records make in the kernel, whatever the order in which it came to be. */
const expected = (context: Context, sandbox: SandboxRecord): readonly Operation[] => {
  const endpoints = context.state.endpointsIn(sandbox.id);
  const namespace = namespaceOf(context, sandbox);
  const routes = [...defaultRoutes(context, endpoints, sandbox)].map(([family, route]): Operation => {
    const to = parsePrefix(family === 4 ? "0.0.0.0/0" : "::/0");
    return { op: "route.add", namespace, route: { to, via: route.via, device: route.device } };
  });
  return plan(
    sandboxPlan(context, sandbox),
    ...endpoints.map((endpoint) => attachmentOf(context, endpoint, sandbox).attach),
    ...routes,
  );
};

const consequence = (operation: Operation): string => {
  switch (operation.op) {
    case "route.add":
      return operation.route.to.endsWith("/0")
        ? "the container does not reach the outside"
        : "the container does not reach another subnet of its network";
    case "address.add":
      return "the service is not reached at its address";
    case "sysctl.set":
      return "the interface behaves otherwise than ours should";
    default:
      return "the service is not reached, and the container does not reach the network";
  }
};
