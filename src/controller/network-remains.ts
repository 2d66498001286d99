import { errorText } from "../errors.ts";
import type { ObservedLink } from "../linux/kernel.ts";
import { hostNamespace, type NamespaceRef, type Operation, type Plan, plan } from "../linux/plan.ts";
import { type Context, idOfMark, markOf } from "./context.ts";
import { isWanted } from "./orphans.ts";
import { Presence } from "./presence.ts";
import { networkOf, orphanTables, removeTable } from "./table-remains.ts";

/**
 * Removes what a crash or changes elsewhere left of networks that span hosts: namespaces of networks without an endpoint here, ports
 * of endpoints that are not here. Only what carries our mark is touched; call it when all records are known.
 */
export const removeNetworkRemains = async (
  context: Context,
  presence: Presence,
  signal?: AbortSignal,
): Promise<void> => {
  const { host, kernel, namespaceDir, locks, log, repairs, state } = context;
  if (!host) return;
  const files = await kernel.namespacesIn(namespaceDir);
  const places = files.filter((path) => !isSandboxPath(path));
  const marked = async (namespace: NamespaceRef) => {
    const links = (await kernel.observe(namespace, signal))?.links ?? [];
    return Map.groupBy(links, ({ alias }) => idOfMark(context, alias));
  };
  for (const namespace of host.overlayHostMode ? [hostNamespace, ...places] : places) {
    for (const id of (await marked(namespace)).keys()) {
      if (id === undefined || isPart(context, presence, id)) continue;
      await locks.hold([Presence.lock(state.endpoints.get(id)?.network ?? id)], async () => {
        // Whoever was removing them is done.
        const now = (await marked(namespace)).get(id) ?? [];
        const work = remainsPlan(context, presence, { id, namespace, links: now });
        if (now.length === 0 || work.length === 0) return;
        // The loopback has the mark of a namespace in which nothing else may have been made yet.
        const made = now.map(({ name }) => name).filter((name) => name !== "lo");
        const names = made.join(", ") || "a namespace";
        repairs.say("info", `found ${names} of ours in ${namespace}, expected none: removed`);
        try {
          await kernel.teardown(work);
        } catch (error) {
          log("error", `could not remove ${names} in ${namespace}: ${errorText(error)}`);
        }
      });
    }
  }
  await removeVacantFiles(context, presence);
  await removeTableRemains(context, signal);
};

/** A crash came between the end of a namespace and that of its file, or before there was one. */
const removeVacantFiles = async (context: Context, presence: Presence): Promise<void> => {
  const { kernel, locks, log, repairs } = context;
  for (const { path, network } of await vacantFiles(context, presence)) {
    await locks.hold([Presence.lock(network ?? path)], async () => {
      // Whoever was making it, or removing it, is done.
      if (!(await vacantFiles(context, presence)).some((one) => one.path === path)) return;
      repairs.say("info", `found ${path} of ours without a namespace, expected none: removed`);
      try {
        await kernel.teardown(plan({ op: "namespace.delete", path }));
      } catch (error) {
        log("error", `could not remove ${path}: ${errorText(error)}`);
      }
    });
  }
};

/** Files of ours for namespaces of networks that have no endpoint here, without a namespace. @returns each with its network where that is known */
export const vacantFiles = async (
  { kernel, namespaceDir, state }: Context,
  presence: Presence,
): Promise<readonly { readonly path: string; readonly network: string | undefined }[]> => {
  const wanted = presence.namespaces();
  const places = (await kernel.vacantIn(namespaceDir)).filter((path) => !isSandboxPath(path) && !wanted.includes(path));
  if (places.length === 0) return [];
  const networks = new Map([...state.networks.values()].map((one) => [presence.place(one)?.namespace, one.id]));
  return places.map((path) => ({ path, network: networks.get(path) }));
};

/** A crash came between the end of a namespace and that of its table. */
const removeTableRemains = async (context: Context, signal?: AbortSignal): Promise<void> => {
  const { kernel, locks, log, repairs, state } = context;
  try {
    for (const table of await orphanTables(context, signal)) {
      const prefix = networkOf(table) ?? "";
      const network = [...state.networks.keys()].find((id) => id.startsWith(prefix)) ?? prefix;
      await locks.hold([Presence.lock(network)], async () => {
        // Whoever was removing it is done.
        if (!(await orphanTables(context, signal)).includes(table)) return;
        repairs.say("info", `found table ${table} of ours, expected none: removed`);
        await kernel.teardown(plan(removeTable(table)));
      });
    }
  } catch (error) {
    log("error", `could not remove tables of networks that are not here: ${errorText(error)}`);
  }
};

/** Sandboxes' own have links that are named by their endpoints, and go with their records. */
const isSandboxPath = (path: string): boolean => /\/([0-9a-f]{12}|default)$/.test(path);

/** What carries this id belongs to a network that has an endpoint here, or to that endpoint. */
const isPart = (context: Context, presence: Presence, id: string): boolean =>
  context.state.networks.has(id) ? presence.isPresent(id) : isWanted(context, id);

const remainsPlan = (
  context: Context,
  presence: Presence,
  { id, namespace, links }: { id: string; namespace: NamespaceRef; links: readonly ObservedLink[] },
): Plan => {
  const { state, drivers, host } = context;
  if (isPart(context, presence, id)) return plan();
  const network = state.networks.get(id);
  if (network) return presence.leavePlan([network]);
  // Links of the host's own namespace are looked after with those of bridge networks.
  if (!host || namespace === hostNamespace) return plan();
  const mark = markOf(context, id);
  for (const driver of drivers.values()) {
    const work = driver.presence?.removeRemains?.({ id, mark, namespace, links }, host) ?? plan();
    if (work.length > 0) return work;
  }
  return plan(...links.map(({ name }): Operation => ({ op: "link.delete", namespace, name, alias: mark })));
};
