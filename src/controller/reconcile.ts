import { errorText } from "../errors.ts";
import { hostNamespace, type Operation, plan } from "../linux/plan.ts";
import { type Context, driverNetwork, hostStackPath, idOfMark, isHere, namespaceOf, usableDriver } from "./context.ts";
import { removeNetworkRemains } from "./network-remains.ts";
import { portTargets } from "./port-wiring.ts";
import { Presence } from "./presence.ts";
import type { PresenceKeeper } from "./presence-keeper.ts";
import { keys, type NetworkRecord, type SandboxRecord } from "./records.ts";
import type { SandboxManager } from "./sandbox-manager.ts";
import { sideBySide } from "./side-by-side.ts";
import { rewirePlan, sandboxPlan } from "./wiring.ts";

/**
 * Makes the kernel match the store: what should be is made or adopted, what carries our mark and should not be is removed. A
 * crash at any point is just a difference that this removes. One object's failure is logged and stops no other.
 * @param complete false while the shared store cannot be read: what is not known may still be wanted, and stays
 * @param keepOrphans true where records were lost: what no record explains may be all that is left of them, and stays
 */
export const reconcile = async (
  context: Context,
  {
    sandboxes,
    presence,
    keeper,
  }: { readonly sandboxes: SandboxManager; readonly presence: Presence; readonly keeper: PresenceKeeper },
  complete: boolean,
  signal?: AbortSignal,
  keepOrphans = false,
): Promise<void> => {
  for (const network of presence.networks()) {
    await attempt(context, `restore the table of network ${network.name}`, async () => {
      if (presence.isPresent(network.id)) presence.guard(network);
    });
  }
  // Before the whole ruleset is replaced, which has them in it: a client of a published port must not notice.
  context.ports?.load(sandboxesWithPorts(context));
  const usable = usableNetworks(context, (network, error) =>
    context.log("error", `could not restore network ${network.name}: ${errorText(error)}`),
  );
  const parts = () =>
    usableNetworks(context).flatMap(({ network, driver }) => driver.firewall(driverNetwork(context, network)) ?? []);
  // Protection that cannot be installed is no reason to go on: an error here ends the start.
  await context.firewall.restore(parts, signal);
  if (complete && !keepOrphans) {
    await giveBackClaims(context);
    await removeOrphanLinks(context, signal);
    await removeNetworkRemains(context, presence, signal);
  }
  // Operations and what other nodes do go on beside this: what has gone since it was listed is not made anew.
  for (const { network, driver } of usable) {
    await context.locks.hold([`network:${network.id}`], async () => {
      if (!context.state.networks.has(network.id)) return;
      const work = driver.createNetwork(driverNetwork(context, network));
      await attempt(context, `restore network ${network.name}`, () => context.kernel.apply(work, signal));
    });
  }
  for (const network of presence.networks()) {
    const what = `restore network ${network.name} on this host`;
    await context.locks.hold([Presence.lock(network.id)], async () => {
      if (!presence.isPresent(network.id)) return;
      await attempt(context, what, () => context.firewall.exclusive(() => presence.make(network, signal)));
      await attempt(context, what, () => keeper.repair(network));
    });
  }
  await context.ports?.restore(signal);
  await sideBySide([...context.state.sandboxes.values()], (sandbox) =>
    reconcileSandbox(context, sandboxes, sandbox, signal),
  );
  if (!keepOrphans) await removeOrphanSandboxes(context);
};

/** A network whose driver is not loaded or refuses its record is left alone: its links stay, nothing is made. */
const usableNetworks = (
  context: Context,
  onUnusable: (network: NetworkRecord, error: unknown) => void = () => undefined,
) =>
  [...context.state.networks.values()].flatMap((network) => {
    const driver = usableDriver(context, network, (error) => onUnusable(network, error));
    return driver ? [{ network, driver }] : [];
  });

const sandboxesWithPorts = (context: Context) =>
  [...context.state.sandboxes.values()].flatMap((sandbox) => {
    if (!sandbox.ports) return [];
    try {
      return [{ sandbox, targets: portTargets(context, context.state.endpointsIn(sandbox.id), sandbox) }];
    } catch (error) {
      context.log("error", `could not restore the ports of container ${sandbox.container}: ${errorText(error)}`);
      return [];
    }
  });

const attempt = async (context: Context, what: string, work: () => Promise<unknown>): Promise<void> => {
  try {
    await work();
  } catch (error) {
    context.log("error", `could not ${what}: ${errorText(error)}`);
  }
};

/** Endpoints that a sandbox of this host claims and that no longer exists here: the local store was lost or replaced. */
const giveBackClaims = async (context: Context): Promise<void> => {
  for (const endpoint of [...context.state.endpoints.values()]) {
    const id = endpoint.sandbox?.id ?? "";
    if (!isHere(context, endpoint) || context.state.sandboxes.has(id) || context.state.isUnreadable(id)) continue;
    const { sandbox: _claim, ...free } = endpoint;
    const network = context.state.networks.get(endpoint.network);
    const key = keys.endpoint(endpoint.network, endpoint.id);
    context.log("info", `found endpoint ${endpoint.name} claimed by a sandbox that is gone: given back`);
    try {
      if (network) await context.state.commit(network.scope, { unchanged: [key], puts: [{ key, value: free }] });
    } catch (error) {
      context.log("error", `could not give back endpoint ${endpoint.name}: ${errorText(error)}`);
    }
  }
};

const removeOrphanLinks = async (context: Context, signal?: AbortSignal): Promise<void> => {
  const host = await context.kernel.observe(hostNamespace, signal);
  const orphans = (host?.links ?? []).flatMap((link): Operation[] => {
    const id = idOfMark(context, link.alias);
    const endpoint = context.state.endpoints.get(id ?? "");
    if (id === undefined || context.state.networks.has(id) || (endpoint && isHere(context, endpoint))) return [];
    if (context.state.isUnreadable(id)) return [];
    context.log("info", `found link ${link.name} of ours, expected none: removed`);
    return [{ op: "link.delete", namespace: hostNamespace, name: link.name }];
  });
  if (orphans.length > 0)
    await attempt(context, "remove orphaned links", () => context.kernel.teardown(plan(...orphans)));
};

/** A sandbox whose namespace is gone has lost all that ran in it (a reboot): its records go too. Others are wired again. */
const reconcileSandbox = async (
  context: Context,
  sandboxes: SandboxManager,
  sandbox: SandboxRecord,
  signal?: AbortSignal,
): Promise<void> => {
  await context.locks.hold([`sandbox:${sandbox.id}`, `container:${sandbox.container}`], async () => {
    if (context.state.sandboxes.has(sandbox.id)) await restoreSandbox(context, sandboxes, sandbox, signal);
  });
};

const restoreSandbox = async (
  context: Context,
  sandboxes: SandboxManager,
  sandbox: SandboxRecord,
  signal?: AbortSignal,
): Promise<void> => {
  const endpoints = context.state.endpointsIn(sandbox.id);
  try {
    if (!sandbox.host && !(await context.kernel.isNamespace(namespaceOf(context, sandbox)))) {
      context.log("info", `found no namespace of container ${sandbox.container}: its records are removed`);
      await sandboxes.remove(sandbox, endpoints);
      return;
    }
    if (sandbox.removing) {
      context.log("info", `found the removal of container ${sandbox.container} begun: gone on with`);
      await sandboxes.remove(sandbox, endpoints);
      return;
    }
    await context.naming.prepare(sandbox);
    // What it has of a network whose record cannot be read stays as it is; everything else is restored.
    const known = endpoints.filter(({ network }) => context.state.networks.has(network));
    const all = plan(sandboxPlan(context, sandbox), rewirePlan(context, known, sandbox));
    const isTold = (operation: Operation): boolean => operation.op === "link.set" && operation.again === true;
    // Neighbours know what was there all the time; to tell them of every sandbox costs each all its neighbours' time.
    if (await context.kernel.apply(plan(...all.filter((one) => !isTold(one))), signal))
      await context.kernel.apply(plan(...all.filter(isTold)), signal);
    await context.naming.open(sandbox, signal);
  } catch (error) {
    context.log("error", `could not restore container ${sandbox.container}: ${errorText(error)}`);
  }
};

/** Directories of sandboxes that no record knows: a crash came between the record and the rest. */
const removeOrphanSandboxes = async (context: Context): Promise<void> => {
  const { namespaceDir, state } = context;
  for (const id of await context.naming.directories()) {
    if (state.sandboxes.has(id) || state.isUnreadable(id)) continue;
    context.log("info", `found the remains of sandbox ${id.slice(0, 12)}, expected none: removed`);
    const paths = [`${namespaceDir}/${id.slice(0, 12)}`];
    // It may have been one on the host's stack; their common path goes with the last of them.
    if (![...state.sandboxes.values()].some(({ host }) => host)) paths.push(hostStackPath(context));
    const work = plan(...paths.map((path): Operation => ({ op: "namespace.delete", path })));
    // Its directory is what it is known by: it goes last, and stays where something else does.
    await attempt(context, `remove the remains of sandbox ${id.slice(0, 12)}`, async () => {
      await context.kernel.teardown(work);
      await context.naming.discard(id);
    });
  }
};
