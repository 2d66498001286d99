import { errorText } from "../errors.ts";
import { hostNamespace, type Operation, plan } from "../linux/plan.ts";
import { type Context, hostStackPath, idOfMark, isHere } from "./context.ts";

/** What carries our mark, or lies in our directories, and no record wants: a crash came between the record and the rest. */

/** True where a record, or one that cannot be read, says that something with this id in its mark is on this host. */
export const isWanted = ({ state, instance }: Context, id: string): boolean => {
  const endpoint = state.endpoints.get(id);
  return state.networks.has(id) || state.isUnreadable(id) || (endpoint !== undefined && isHere({ instance }, endpoint));
};

/** Links of the host. */
export const removeOrphanLinks = async (context: Context, signal?: AbortSignal): Promise<void> => {
  const { kernel, locks, repairs, log } = context;
  const host = await kernel.observe(hostNamespace, signal);
  for (const { name, alias } of host?.links ?? []) {
    const id = idOfMark(context, alias);
    if (id === undefined || alias === undefined || isWanted(context, id)) continue;
    // Somebody may be about to remove it, or to make it again.
    await locks.hold([`endpoint:${id}`, `network:${id}`], async () => {
      if (isWanted(context, id)) return;
      try {
        const done = await kernel.apply(plan({ op: "link.delete", namespace: hostNamespace, name, alias }), signal);
        if (done.length > 0) repairs.say("info", `found link ${name} of ours, expected none: removed`);
      } catch (error) {
        log("error", `could not remove orphaned link ${name}: ${errorText(error)}`);
      }
    });
  }
};

/** Directories of sandboxes, and their namespaces. */
export const removeOrphanSandboxes = async (context: Context): Promise<void> => {
  const { locks, naming, state } = context;
  const isKnown = (id: string): boolean => state.sandboxes.has(id) || state.isUnreadable(id);
  for (const id of await naming.directories()) {
    if (isKnown(id)) continue;
    await locks.hold([`sandbox:${id}`], async () => {
      // Whoever was removing it is done.
      if (!isKnown(id) && (await naming.directories()).includes(id)) await removeRemains(context, id);
    });
  }
};

const removeRemains = async ({ kernel, log, naming, namespaceDir, repairs, state }: Context, id: string) => {
  const short = id.slice(0, 12);
  const paths = [`${namespaceDir}/${short}`];
  // It may have been one on the host's stack; their common path goes with the last of them.
  if (![...state.sandboxes.values()].some(({ host }) => host)) paths.push(hostStackPath({ namespaceDir }));
  repairs.say("info", `found the remains of sandbox ${short}, expected none: removed`);
  try {
    await kernel.teardown(plan(...paths.map((path): Operation => ({ op: "namespace.delete", path }))));
    // Its directory is what it is known by: it goes last, and stays where something else does.
    await naming.discard(id);
  } catch (error) {
    log("error", `could not remove the remains of sandbox ${short}: ${errorText(error)}`);
  }
};
