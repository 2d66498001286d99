import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Lab } from "../../src/lab/lab.ts";
import type { Event } from "./history.ts";

/** Puts what is needed to understand a run with problems into a directory. */
export const keepEvidence = (
  directory: string,
  lab: Lab,
  hosts: readonly string[],
  history: readonly Event[],
  problems: readonly string[],
): void => {
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "problems"), problems.map((text) => `${text}\n`).join(""));
  writeFileSync(join(directory, "history"), history.map((event) => `${JSON.stringify(event)}\n`).join(""));
  for (const name of hosts) writeFileSync(join(directory, `${name}.log`), lab.host(name).log);
  writeFileSync(join(directory, "store.log"), lab.store.log);
};
