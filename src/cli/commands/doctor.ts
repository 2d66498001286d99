import type { DiagnosisResource, FindingResource, RepairResource } from "../../api/resources.ts";
import { ClientError } from "../client.ts";
import { type Command, formatFlag, jsonText } from "../command.ts";

/** As diff(1) and grep(1) have it: 0 nothing found, 1 something found, 2 trouble. */
const status = { nothing: 0, differences: 1, trouble: 2 } as const;

const finding = ({ subject, what, expected, consequence, remedy, repairable, code }: FindingResource): string =>
  [
    `${subject}: ${what}`,
    `   expected     ${expected}`,
    `   consequence  ${consequence}`,
    `   remedy       ${remedy}`,
    `   code         ${code}${repairable ? "" : " (not repairable by dnet)"}`,
  ]
    .map((line) => `${line}\n`)
    .join("");

const text = ({ findings, checked, unchecked }: DiagnosisResource): string =>
  [
    ...findings.map((one) => `${finding(one)}\n`),
    ...unchecked.map(({ check, reason }) => `could not look at ${check}: ${reason}\n`),
    findings.length === 0
      ? `no differences found in ${checked.join(", ")}\n`
      : `${findings.length} ${findings.length === 1 ? "difference" : "differences"} found\n`,
  ].join("");

const statusOf = ({ findings, unchecked }: DiagnosisResource): number => {
  if (findings.length > 0) return status.differences;
  return unchecked.length > 0 ? status.trouble : status.nothing;
};

export const doctorCommand: Command = {
  name: "doctor",
  operands: "",
  count: [0, 0],
  brief: "Compare store, kernel, files and cluster, and repair",
  summary: `Compares store, kernel, files and cluster, and names every difference with its consequence and remedy.
Exit status: 0 nothing found, 1 differences, 2 something could not be looked at`,
  flags: [
    { names: ["repair"], kind: "boolean", help: "Remove the differences that can be removed, and look again" },
    formatFlag,
  ],
  examples: ["dnet doctor", "dnet doctor --repair", "dnet doctor --format json"],
  trouble: status.trouble,
  async run({ client, print, json }, args) {
    if (!args.boolean("repair")) {
      const found = await client.call<DiagnosisResource>("GET", "/doctor");
      checkAnswer(found);
      print(json ? jsonText(found) : text(found));
      return statusOf(found);
    }
    const { before, done, after } = await client.call<RepairResource>("POST", "/doctor/repair");
    checkAnswer(after);
    if (json) print(jsonText({ before, done, after }));
    else print([...done.map((line) => `${line}\n`), text(after)].join(""));
    return statusOf(after);
  },
};

/** Another daemon (the original's) answers such a path in its own way. */
const checkAnswer = (found: DiagnosisResource | undefined): void => {
  if (!Array.isArray(found?.findings)) throw new ClientError("this daemon does not examine itself");
};
