import { hostNamespace, type Operation } from "../linux/plan.ts";
import type { Context } from "./context.ts";

/**
 * Tables of networks that span hosts and that have no endpoint here. A table has no mark but its name, which has the network's id in
 * it; another daemon of this host may have some that this one knows nothing of.
 * @throws where nft does not run
 */
export const orphanTables = async (context: Context, signal?: AbortSignal): Promise<readonly string[]> => {
  const { firewall, firewallTable, probe, state } = context;
  if (firewallTable === undefined) return [];
  // Noted before a table is made, and forgotten before it goes.
  const wanted = new Set(firewall.parts.map(({ table }) => table));
  const tables = await probe.tables(signal);
  const alone = !tables.some((table) => /^inet dnet_[0-9a-f]{8}$/.test(table) && table !== `inet ${firewallTable}`);
  const known = new Set([...state.networks.keys()].map((id) => id.slice(0, 10)));
  return tables.filter((table) => {
    const id = networkOf(table);
    return id !== undefined && !wanted.has(table) && (alone || known.has(id)) && !state.isUnreadable(id);
  });
};

/** The first digits of a network's id. */
export const networkOf = (table: string): string | undefined => /^inet dnet_overlay_([0-9a-f]{10})$/.exec(table)?.[1];

export const removeTable = (table: string): Operation => ({
  op: "nft.apply",
  namespace: hostNamespace,
  script: `add table ${table}\ndelete table ${table}\n`,
});
