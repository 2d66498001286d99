import type { TableDifference } from "./kernel.ts";
import type { Namespaces } from "./namespaces.ts";
import { applyNft, listTables } from "./nft.ts";

/**
 * Compares the host's tables with what a script makes of an empty namespace: both as nft lists them, so that nothing of
 * nft's own ways of writing has to be known.
 */
export const compareTables = (
  namespaces: Namespaces,
  script: string,
  tables: readonly string[],
): readonly TableDifference[] => {
  const [first = ""] = tables;
  const found = listTables();
  // After a flush every run of nft that is spared brings the rules back sooner.
  if (!found.has(first)) return [{ table: first, absent: true, missing: [], extra: [], expected: 0, reordered: false }];
  const expected = namespaces.scratch(() => {
    applyNft(script);
    return listTables();
  });
  return tables.flatMap((table) => {
    const [should, is] = [expected.get(table) ?? "", found.get(table) ?? ""];
    return should === is ? [] : [{ table, absent: is === "", ...differenceOf(linesOf(should), linesOf(is)) }];
  });
};

/** Lines without their place: elements of a set stand one a line, the first and the last with brackets. */
const linesOf = (listing: string): readonly string[] =>
  listing
    .split("\n")
    .map((line) => line.replace(/^\s*(elements = \{ )?/, "").replace(/(,| \})$/, ""))
    .filter((line) => line !== "" && line !== "}");

export const differenceOf = (
  expected: readonly string[],
  found: readonly string[],
): Omit<TableDifference, "table" | "absent"> => {
  const missing = without(expected, found);
  const extra = without(found, expected);
  return { missing, extra, expected: expected.length, reordered: missing.length === 0 && extra.length === 0 };
};

/** Lines of the first that the second has not, each as often as it is missing. */
const without = (lines: readonly string[], others: readonly string[]): readonly string[] => {
  const left = new Map<string, number>();
  for (const line of others) left.set(line, (left.get(line) ?? 0) + 1);
  return lines.filter((line) => {
    const count = left.get(line) ?? 0;
    left.set(line, count - 1);
    return count <= 0;
  });
};
