import { errorText } from "../errors.ts";
import { type Operation, plan } from "../linux/plan.ts";
import { type Context, driverNetwork, namespaceOf, usableDriver } from "./context.ts";
import type { NetworkRecord, SandboxRecord } from "./records.ts";
import type { SandboxManager } from "./sandbox-manager.ts";
import { rewirePlan, sandboxPlan } from "./wiring.ts";

export interface Restoration {
  readonly context: Context;
  readonly sandboxes: SandboxManager;
  /** At a start, and where somebody asked for it; else what others changed under a running daemon is put right. */
  readonly thorough: boolean;
  readonly signal?: AbortSignal | undefined;
}

const note = ({ context, thorough }: Restoration, subject: string, done: readonly Operation[]): void =>
  context.repairs.operations(thorough ? "info" : "warning", subject, done);

/**
 * What a network has on this host as long as it exists. What has gone since its record was read is not made anew; one whose driver is
 * not loaded or refuses its record is left alone: its links stay.
 */
export const restoreNetwork = async (restoration: Restoration, network: NetworkRecord): Promise<void> => {
  const { context, signal, thorough } = restoration;
  const failed = (error: unknown): void =>
    context.log("error", `could not restore network ${network.name}: ${errorText(error)}`);
  await context.locks.hold([`network:${network.id}`], async () => {
    if (!context.state.networks.has(network.id)) return;
    const driver = usableDriver(context, network, (error) => thorough && failed(error));
    if (!driver) return;
    try {
      const done = await context.kernel.apply(driver.createNetwork(driverNetwork(context, network)), signal);
      note(restoration, `network ${network.name}`, done);
    } catch (error) {
      failed(error);
    }
  });
};

/**
 * A sandbox is wired as its records say. One whose namespace is gone has lost all that ran in it (a reboot): its records go too. A path
 * that somebody took away while the daemon runs says nothing about who runs in there: that is the doctor's to tell.
 */
export const restoreSandbox = async (restoration: Restoration, sandbox: SandboxRecord): Promise<void> => {
  const { context } = restoration;
  await context.locks.hold([`sandbox:${sandbox.id}`, `container:${sandbox.container}`], async () => {
    const now = context.state.sandboxes.get(sandbox.id);
    if (!now) return;
    try {
      await restore(restoration, now);
    } catch (error) {
      context.log("error", `could not restore container ${sandbox.container}: ${errorText(error)}`);
    }
  });
};

const restore = async (restoration: Restoration, sandbox: SandboxRecord): Promise<void> => {
  const { context, sandboxes, thorough, signal } = restoration;
  const { kernel, log, naming, state } = context;
  const endpoints = state.endpointsIn(sandbox.id);
  if (!sandbox.host && !(await kernel.isNamespace(namespaceOf(context, sandbox)))) {
    if (!thorough) return;
    log("info", `found no namespace of container ${sandbox.container}: its records are removed`);
    await sandboxes.remove(sandbox, endpoints);
    return;
  }
  if (sandbox.removing) {
    log("info", `found the removal of container ${sandbox.container} begun: gone on with`);
    await sandboxes.remove(sandbox, endpoints);
    return;
  }
  await naming.prepare(sandbox);
  // What it has of a network whose record cannot be read stays as it is; everything else is restored.
  const known = endpoints.filter(({ network }) => state.networks.has(network));
  const all = plan(
    sandboxPlan(context, sandbox),
    rewirePlan(context, known, sandbox),
    // A resolver that is opened looks at it itself.
    thorough ? plan() : naming.plan(sandbox),
  );
  const isTold = (operation: Operation): boolean => operation.op === "link.set" && operation.again === true;
  const done = await kernel.apply(plan(...all.filter((one) => !isTold(one))), signal);
  // Neighbours know what was there all the time; to tell them of every sandbox costs each all its neighbours' time.
  if (done.length > 0) await kernel.apply(plan(...all.filter(isTold)), signal);
  note(restoration, `container ${sandbox.container}`, done);
  await naming.open(sandbox, signal);
};
