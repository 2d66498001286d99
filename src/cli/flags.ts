/** Command-line flags as the original reads them: `-d x`, `-d=x`, `--driver x`, `--driver=x`, `-net x`; order does not matter. */

export interface Flag {
  /** Without dashes; the first is its key. One letter: one dash; more: two dashes, though one is understood. */
  readonly names: readonly [string, ...string[]];
  readonly kind: "boolean" | "string" | "list";
  readonly help: string;
  /** Shown in help: `-n=-1`. */
  readonly standard?: string;
}

export interface Parsed {
  readonly positional: readonly string[];
  readonly boolean: (name: string) => boolean;
  readonly string: (name: string) => string | undefined;
  readonly list: (name: string) => readonly string[];
}

/** What a person typed cannot be understood; `text` is printed, the exit status is 1. */
export class UsageError extends Error {}

const truth = ["1", "t", "T", "true", "TRUE", "True"];
const falsehood = ["0", "f", "F", "false", "FALSE", "False"];

/**
 * @param stopAtCommand leaves everything from the first word that is no flag to somebody else (global flags)
 * @throws UsageError
 */
export const parseFlags = (flags: readonly Flag[], args: readonly string[], stopAtCommand = false): Parsed => {
  const byName = new Map(flags.flatMap((flag) => flag.names.map((name) => [name, flag] as const)));
  const values = new Map<string, string[]>();
  const positional: string[] = [];
  for (let n = 0; n < args.length; n++) {
    const arg = args[n] ?? "";
    if (arg === "--") {
      positional.push(...args.slice(n + 1));
      break;
    }
    const match = /^--?([^=]+)(?:=(.*))?$/s.exec(arg);
    if (!match || arg === "-") {
      positional.push(...(stopAtCommand ? args.slice(n) : [arg]));
      if (stopAtCommand) break;
      continue;
    }
    const [, name = "", attached] = match;
    const flag = byName.get(name);
    if (!flag) throw new UsageError(`flag provided but not defined: ${arg.split("=")[0]}`);
    const key = flag.names[0];
    if (flag.kind === "boolean") {
      const text = attached ?? "true";
      if (![...truth, ...falsehood].includes(text)) {
        throw new UsageError(`invalid boolean value ${JSON.stringify(text)} for flag ${arg.split("=")[0]}`);
      }
      values.set(key, [text]);
      continue;
    }
    const value = attached ?? args[++n];
    if (value === undefined) throw new UsageError(`flag needs an argument: ${arg}`);
    if (flag.kind === "list") values.set(key, [...(values.get(key) ?? []), value]);
    else values.set(key, [value]);
  }
  return {
    positional,
    boolean: (name) => truth.includes(values.get(name)?.[0] ?? "false"),
    string: (name) => values.get(name)?.[0],
    list: (name) => values.get(name) ?? [],
  };
};

const dashed = (name: string): string => (name.length === 1 || name === "net" ? `-${name}` : `--${name}`);

/** The lines of a help screen, sorted by name as in the original. */
export const flagHelp = (flags: readonly Flag[]): string => {
  const rows = [...flags, { names: ["help"], kind: "boolean", help: "Print usage" } as const].map((flag) => {
    const names = [...flag.names].sort((a, b) => a.length - b.length);
    return { left: `${names.map(dashed).join(", ")}${"standard" in flag ? `=${flag.standard}` : ""}`, help: flag.help };
  });
  rows.sort((a, b) => (a.left.replace(/^-+/, "") < b.left.replace(/^-+/, "") ? -1 : 1));
  const width = Math.max(18, ...rows.map(({ left }) => left.length + 1));
  return rows.map(({ left, help }) => `  ${left.padEnd(width)} ${help}\n`).join("");
};
