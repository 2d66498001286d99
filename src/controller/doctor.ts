import { errorText } from "../errors.ts";
import { addressesCheck } from "./doctor/addresses.ts";
import type { Check, Finding, Look } from "./doctor/check.ts";
import { claimsCheck } from "./doctor/claims.ts";
import type { Diagnosis, RepairReport } from "./doctor/diagnosis.ts";
import { filesCheck } from "./doctor/files.ts";
import { firewallCheck } from "./doctor/firewall.ts";
import { guardsCheck } from "./doctor/guards.ts";
import { hostCheck } from "./doctor/host.ts";
import { networksCheck } from "./doctor/networks.ts";
import { nodesCheck } from "./doctor/nodes.ts";
import { orphansCheck } from "./doctor/orphans.ts";
import { peersCheck } from "./doctor/peers.ts";
import { portsCheck } from "./doctor/ports.ts";
import { reachCheck } from "./doctor/reach.ts";
import { recordsCheck } from "./doctor/records.ts";
import { sandboxesCheck } from "./doctor/sandboxes.ts";
import { storeCheck } from "./doctor/store.ts";
import { underlayCheck } from "./doctor/underlay.ts";

/** In the order in which they are reported and repaired: records first, since the rest follows from them. */
const checks: readonly Check[] = [
  storeCheck,
  recordsCheck,
  claimsCheck,
  guardsCheck,
  addressesCheck,
  networksCheck,
  peersCheck,
  sandboxesCheck,
  orphansCheck,
  filesCheck,
  firewallCheck,
  portsCheck,
  underlayCheck,
  nodesCheck,
  reachCheck,
  hostCheck,
];

/** Milliseconds that an examination waits for operations under way before it looks again. */
const idle = 5_000;

/**
 * Compares store, kernel, files and cluster. What is found is looked for once more when nothing is under way, and counts only
 * where it is still there: an operation between its commit and its plan is no difference.
 */
export const diagnose = async (look: Look): Promise<Diagnosis> => {
  const first = await runAll(look, checks);
  const doubtful = first.filter(({ findings }) => findings.length > 0).map(({ check }) => check);
  if (doubtful.length > 0) await look.context.locks.idle(idle);
  const again = new Map((await runAll(look, doubtful)).map((result) => [result.check, result]));
  const results = first.map((result) => confirmed(result, again.get(result.check)));
  return {
    findings: results.flatMap(({ findings }) => findings.map(printable)),
    checked: results.filter(({ reason }) => reason === undefined).map(({ check }) => check.name),
    unchecked: results.flatMap(({ check, reason }) => (reason === undefined ? [] : [{ check: check.name, reason }])),
  };
};

interface Result {
  readonly check: Check;
  readonly findings: readonly Finding[];
  /** Why it could not be made. */
  readonly reason?: string;
}

const runAll = async (look: Look, wanted: readonly Check[]): Promise<readonly Result[]> => {
  const results: Result[] = [];
  for (const check of wanted) {
    try {
      results.push({ check, findings: await check.run(look) });
    } catch (error) {
      look.signal?.throwIfAborted();
      results.push({ check, findings: [], reason: errorText(error) });
    }
  }
  return results;
};

const confirmed = (first: Result, again: Result | undefined): Result => {
  if (!again || again.reason !== undefined) return again ?? first;
  const seen = new Set(first.findings.map(sameness));
  return { ...again, findings: again.findings.filter((finding) => seen.has(sameness(finding))) };
};

/** Findings tell of what others wrote, and go to terminals. */
const printable = (finding: Finding): Finding => {
  const texts = Object.entries(finding).map(([name, value]) => [
    name,
    typeof value === "string" ? value.replaceAll(/[^\P{C}\n]/gu, "?").slice(0, 2_000) : value,
  ]);
  return Object.fromEntries(texts) as Finding;
};

const sameness = ({ code, subject, expected }: Finding): string => [code, subject, expected].join("\n");

/**
 * Removes what can be removed: each check what only it knows, then the reconcile of the start.
 * @param lookAnew gives what there is to look at, as it is then
 * @param reconcile makes the kernel match the records, orphans included
 */
export const repair = async (lookAnew: () => Look, reconcile: () => Promise<void>): Promise<RepairReport> => {
  const look = lookAnew();
  const before = await diagnose(look);
  const done: string[] = [];
  if (before.findings.some(({ repairable }) => repairable)) {
    for (const check of checks) {
      try {
        done.push(...((await check.repair?.(look)) ?? []));
      } catch (error) {
        look.signal?.throwIfAborted();
        done.push(`${check.name}: could not be put right: ${errorText(error)}`);
      }
    }
    await reconcile();
    done.push("the kernel was made to match the records");
  }
  const after = done.length > 0 ? await diagnose(lookAnew()) : before;
  for (const line of done) look.context.log("info", `doctor: ${line}`);
  return { before, done, after };
};
