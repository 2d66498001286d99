import type { Finding } from "./check.ts";

/** What an examination found. */
export interface Diagnosis {
  readonly findings: readonly Finding[];
  /** Names of the checks that were made. */
  readonly checked: readonly string[];
  /** Checks that could not be made, and why: whether there is something to find, nobody knows. */
  readonly unchecked: readonly { readonly check: string; readonly reason: string }[];
}

/** What a repair did. */
export interface RepairReport {
  readonly before: Diagnosis;
  /** One line each. */
  readonly done: readonly string[];
  /** Another look, after it. */
  readonly after: Diagnosis;
}
