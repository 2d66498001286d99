// Holds what a page says of its tests: node scripts/named-tests.ts docs/complaints.md [...]
// A row of its tables names tests as `file` "title"; each must be there, and one title at least must begin with or contain what
// the row's first cell is called (a number, an advisory). A row without a test must say why: "does not apply".
import { existsSync, readFileSync } from "node:fs";

interface Row {
  readonly line: number;
  readonly name: string;
  readonly text: string;
}

const rowsOf = (page: string): readonly Row[] =>
  page.split("\n").flatMap((text, n): readonly Row[] => {
    const name = /^\|\s*([^|]+?)\s*\|/.exec(text)?.[1];
    // The heads of tables and the lines under them have no tests to name.
    if (name === undefined || /^[-: ]+$/.test(name) || page.split("\n")[n + 1]?.match(/^\|[\s:|-]+\|$/)) return [];
    return [{ line: n + 1, name, text }];
  });

const sources = new Map<string, string>();
const sourceOf = (file: string): string => {
  const source = sources.get(file) ?? (existsSync(file) ? readFileSync(file, "utf8") : "");
  sources.set(file, source);
  return source;
};

const escaped = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
/** The title as the whole text of a literal: single lines, in whichever quotes. */
const hasTitle = (source: string, title: string): boolean =>
  new RegExp(`(["'\`])${escaped(title)}\\1`).test(source.replaceAll('\\"', '"'));

/** What is wrong with a row; empty where all is as it says. */
const faultsOf = ({ name, text }: Row): readonly string[] => {
  const tests = [...text.matchAll(/`([\w./-]+\.test\.ts)` "([^"]+)"/g)].map(([, file = "", title = ""]) => ({
    file,
    title,
  }));
  if (tests.length === 0) return text.includes("does not apply") ? [] : ['no test, and not "does not apply"'];
  const missing = tests.flatMap(({ file, title }) => {
    if (sourceOf(file) === "") return [`there is no ${file}`];
    return hasTitle(sourceOf(file), title) ? [] : [`${file} has no test "${title}"`];
  });
  const id = /^(\d+|(?:CVE|GHSA)-[\w-]+|\w+ \d+)/.exec(name)?.[1];
  const named = id === undefined || tests.some(({ title }) => new RegExp(`\\b${escaped(id)}\\b`).test(title));
  return named ? missing : [...missing, `none of its tests is named after ${id}`];
};

/** @returns what is wrong, a line each: `docs/x.md:12 (7): there is no ...` */
export const checkNamedTests = (file: string): readonly string[] => {
  const rows = rowsOf(readFileSync(file, "utf8"));
  if (rows.length === 0) return [`${file}: no rows`];
  return rows.flatMap((row) => faultsOf(row).map((fault) => `${file}:${row.line} (${row.name}): ${fault}`));
};

const faults = process.argv.slice(2).flatMap(checkNamedTests);
for (const fault of faults) console.error(fault);
if (faults.length > 0) process.exit(1);
