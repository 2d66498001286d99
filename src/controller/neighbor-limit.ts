import type { Kernel, NeighborTable } from "../linux/kernel.ts";
import type { NamespaceRef } from "../linux/plan.ts";

/** How near the kernel's tables of neighbours are to the limit beyond which it makes no new entries. */

/** Share of a table that is worth a warning. */
const nearlyFull = 0.8;

const isNearlyFull = ({ entries, limit }: NeighborTable): boolean => entries >= limit * nearlyFull;

/**
 * Tables that are nearly full, without the permanent entries of these namespaces (`Presence.namespaces`): the kernel's count has them, its limit
 * (gc_thresh3) has not since Linux 5.0. For the same reason a table with more entries than its limit has permanent ones of
 * others, nobody knows how many, and is not among them.
 */
export const fullTables = async (
  kernel: Pick<Kernel, "neighborTables" | "entries">,
  namespaces: () => readonly NamespaceRef[],
  signal?: AbortSignal,
): Promise<readonly NeighborTable[]> => {
  const tables = (await kernel.neighborTables(signal)).filter(isNearlyFull);
  // Tens of thousands of entries are read only where it matters.
  if (tables.length === 0) return [];
  const permanent = { 4: 0, 6: 0 };
  for (const namespace of namespaces()) {
    for (const { ip } of (await kernel.entries(namespace, signal)) ?? []) {
      if (ip !== undefined) permanent[ip.includes(":") ? 6 : 4]++;
    }
  }
  return tables
    .map((table) => ({ ...table, entries: table.entries - permanent[table.family] }))
    .filter((table) => isNearlyFull(table) && table.entries <= table.limit);
};

export const neighborWarning = ({ family, entries, limit }: NeighborTable): string =>
  `the kernel's table of IPv${family} neighbours is nearly full, ${entries} of ${limit}: beyond it sandboxes lose connections; ` +
  `raise it with: ${raiseLimit({ family, limit })}`;

/** The command that helps. */
export const raiseLimit = ({ family, limit }: Pick<NeighborTable, "family" | "limit">): string =>
  `sysctl -w net.ipv${family}.neigh.default.gc_thresh3=${limit * 4}`;
