import { errorText } from "../errors.ts";
import { type Context, driverNetwork, isHere, usableDriver } from "./context.ts";
import { removeNetworkRemains } from "./network-remains.ts";
import { removeOrphanLinks, removeOrphanSandboxes } from "./orphans.ts";
import { portTargets } from "./port-wiring.ts";
import { Presence } from "./presence.ts";
import type { PresenceKeeper } from "./presence-keeper.ts";
import { keys } from "./records.ts";
import { restoreNetwork, restoreSandbox } from "./restore.ts";
import type { SandboxManager } from "./sandbox-manager.ts";
import { sideBySide } from "./side-by-side.ts";

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
  const parts = () =>
    [...context.state.networks.values()].flatMap(
      (network) => usableDriver(context, network)?.firewall(driverNetwork(context, network)) ?? [],
    );
  // Protection that cannot be installed is no reason to go on: an error here ends the start.
  await context.firewall.restore(parts, signal);
  if (complete && !keepOrphans) {
    await giveBackClaims(context);
    await removeOrphanLinks(context, signal);
    await removeNetworkRemains(context, presence, signal);
  }
  // Operations and what other nodes do go on beside this: what has gone since it was listed is not made anew.
  const restoration = { context, sandboxes, thorough: true, signal };
  for (const network of [...context.state.networks.values()]) await restoreNetwork(restoration, network);
  for (const network of presence.networks()) {
    const what = `restore network ${network.name} on this host`;
    await context.locks.hold([Presence.lock(network.id)], async () => {
      if (!presence.isPresent(network.id)) return;
      await attempt(context, what, () => context.firewall.exclusive(() => presence.make(network, signal)));
      await attempt(context, what, () => keeper.repair(network));
    });
  }
  await context.ports?.restore(signal);
  await sideBySide([...context.state.sandboxes.values()], (sandbox) => restoreSandbox(restoration, sandbox));
  if (!keepOrphans) await removeOrphanSandboxes(context);
};

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
