import { errorText } from "../errors.ts";
import type { ObservedLink } from "../linux/kernel.ts";
import { hostNamespace, type NamespaceRef, type Operation, type Plan, plan } from "../linux/plan.ts";
import { type Context, idOfMark, isHere, markOf } from "./context.ts";
import { Presence } from "./presence.ts";

/**
 * Removes what a crash or changes elsewhere left of networks that span hosts: namespaces of networks without an endpoint here, ports
 * of endpoints that are not here. Only what carries our mark is touched; call it when all records are known.
 */
export const removeNetworkRemains = async (
  context: Context,
  presence: Presence,
  signal?: AbortSignal,
): Promise<void> => {
  const { host, kernel, namespaceDir, locks, log } = context;
  if (!host) return;
  const files = await kernel.namespacesIn(namespaceDir);
  // Sandboxes' own have links that are named by their endpoints, and go with their records.
  const places = files.filter((path) => !/\/([0-9a-f]{12}|default)$/.test(path));
  for (const namespace of host.overlayHostMode ? [hostNamespace, ...places] : places) {
    const observed = await kernel.observe(namespace, signal);
    const marked = (observed?.links ?? []).flatMap((link) => {
      const id = idOfMark(context, link.alias);
      return id === undefined ? [] : [{ id, link }];
    });
    for (const [id, found] of Map.groupBy(marked, (each) => each.id)) {
      const links = found.map(({ link }) => link);
      await locks.hold([Presence.lock(id)], async () => {
        const work = remainsPlan(context, presence, { id, namespace, links });
        if (work.length === 0) return;
        const names = links.map(({ name }) => name).join(", ");
        log("info", `found ${names} of ours in ${namespace}, expected none: removed`);
        try {
          await kernel.teardown(work);
        } catch (error) {
          log("error", `could not remove ${names} in ${namespace}: ${errorText(error)}`);
        }
      });
    }
  }
};

const remainsPlan = (
  context: Context,
  presence: Presence,
  { id, namespace, links }: { id: string; namespace: NamespaceRef; links: readonly ObservedLink[] },
): Plan => {
  const { state, drivers, host } = context;
  // A record that cannot be read, of a newer version perhaps, still wants what was made for it.
  if (state.isUnreadable(id)) return plan();
  const network = state.networks.get(id);
  if (network) return presence.leavePlan([network]);
  const endpoint = state.endpoints.get(id);
  // Links of the host's own namespace are looked after with those of bridge networks.
  if (!host || namespace === hostNamespace || (endpoint && isHere(context, endpoint))) return plan();
  const mark = markOf(context, id);
  for (const driver of drivers.values()) {
    const work = driver.presence?.removeRemains?.({ id, mark, namespace, links }, host) ?? plan();
    if (work.length > 0) return work;
  }
  return plan(...links.map(({ name }): Operation => ({ op: "link.delete", namespace, name, alias: mark })));
};
