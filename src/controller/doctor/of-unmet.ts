import { describe } from "../../linux/describe.ts";
import { narrate } from "../../linux/narrate.ts";
import type { Operation } from "../../linux/plan.ts";
import { type Finding, findingsShown, repairCommand } from "./check.ts";
import type { Unmet } from "./unmet.ts";

const codes: Partial<Record<Operation["op"], string>> = {
  "namespace.add": "no-namespace",
  "link.add": "link-differs",
  "link.set": "link-differs",
  "address.add": "no-address",
  "route.add": "no-route",
  "neighbor.add": "no-peer",
  "fdb.add": "no-peer",
  "sysctl.set": "setting-differs",
  "nft.apply": "no-table",
};

/** Findings of what a plan would make and is not there; of many alike the first ones, and how many more there are. */
export const findingsOf = (
  subject: string,
  found: readonly Unmet[],
  consequence: (operation: Operation) => string,
): readonly Finding[] => {
  const shown = found.slice(0, findingsShown).map(({ operation, found: what }): Finding => {
    const [command = ""] = describe(operation).split("\n");
    return {
      code: codes[operation.op] ?? "kernel-differs",
      subject,
      what,
      expected: narrate(operation),
      consequence: consequence(operation),
      remedy: operation.op === "nft.apply" ? repairCommand : `${repairCommand}; by hand it begins with: ${command}`,
      repairable: true,
    };
  });
  const more = found.length - shown.length;
  const [last] = shown.slice(-1);
  if (more <= 0 || !last) return shown;
  return [
    ...shown,
    { ...last, code: "more", what: `${more} more differences`, expected: "none", remedy: repairCommand },
  ];
};
