import { narrate } from "../linux/narrate.ts";
import type { Operation } from "../linux/plan.ts";
import type { Log } from "./context.ts";

/** What was put right that others changed, or a crash left: said as `found X, expected Y: done Z`, and counted. */
export class Repairs {
  readonly #log: Log;
  #count = 0;

  constructor(log: Log) {
    this.#log = log;
  }

  /** Since this daemon started. */
  get count(): number {
    return this.#count;
  }

  say(level: "info" | "warning", text: string): void {
    this.#count++;
    this.#log(level, text);
  }

  /** @param done operations that had to change something; without any, nothing is said */
  operations(level: "info" | "warning", subject: string, done: readonly Operation[]): void {
    if (done.length > 0) this.say(level, `${subject}: ${repairText(done)}`);
  }
}

const isRemoval = ({ op }: Operation): boolean => op.endsWith(".delete") || op === "conntrack.flush";

const some = (operations: readonly Operation[]): string => {
  const [first, ...more] = operations;
  if (!first) return "";
  return narrate(first).replace(/^no /, "") + (more.length > 0 ? ` and ${more.length} more` : "");
};

/** `found it without bridge br0 on the host and 2 more, expected it with them: put back`. */
export const repairText = (done: readonly Operation[]): string => {
  const missing = done.filter((one) => !isRemoval(one));
  const extra = done.filter(isRemoval);
  if (missing.length === 0) return `found it with ${some(extra)}, expected it without: removed`;
  const also = extra.length > 0 ? `, and with ${some(extra)}` : "";
  return `found it without ${some(missing)}${also}, expected it with ${missing.length > 1 ? "them" : "that"}: put back`;
};
