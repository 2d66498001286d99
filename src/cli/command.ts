import type { Client } from "./client.ts";
import { type Flag, type Parsed, UsageError } from "./flags.ts";

/** What a command may use: the daemon, and a place to print to. */
export interface CommandContext {
  readonly client: Client;
  readonly print: (text: string) => void;
  readonly warn: (text: string) => void;
  /** `--format json` was given. */
  readonly json: boolean;
}

export interface Command {
  readonly name: string;
  /** What follows the flags: `SERVICE[.NETWORK]`. */
  readonly operands: string;
  /** Fewest and most operands. */
  readonly count: readonly [number, number];
  /** One line in the group's list. */
  readonly brief: string;
  /** The sentence of its own help. */
  readonly summary: string;
  readonly flags: readonly Flag[];
  readonly examples: readonly string[];
  /** Replaces the usual complaint about missing operands. */
  readonly missing?: string;
  /** Exit status where the command could not be carried out; 1 where absent. */
  readonly trouble?: number;
  /** Resolves with an exit status where it is not 0 for sure. */
  readonly run: (context: CommandContext, args: Parsed) => Promise<void> | Promise<number>;
}

export interface CommandGroup {
  readonly name: string;
  readonly summary: string;
  readonly commands: readonly Command[];
}

export const formatFlag: Flag = { names: ["format"], kind: "string", help: "Output format: table or json" };
export const jsonText = (value: unknown): string => `${JSON.stringify(value, undefined, 2)}\n`;

/** `k=v,k=v` of repeatable flags as an object. */
export const pairs = (texts: readonly string[], what: string): Record<string, string> => {
  const entries = texts.flatMap((text) => text.split(",")).filter((text) => text !== "");
  return Object.fromEntries(
    entries.map((entry) => {
      const at = entry.indexOf("=");
      if (at === 0) throw new UsageError(`invalid ${what}: ${JSON.stringify(entry)} has no name`);
      return at < 0 ? [entry, ""] : [entry.slice(0, at), entry.slice(at + 1)];
    }),
  );
};
