import type { NeighborEntry } from "../linux/neighbor-entries.ts";
import type { NeighborOperation } from "../linux/neighbor-executor.ts";
import type { Plan } from "../linux/plan.ts";

/** What the kernel has of the endpoints on other hosts, compared with what it should have. Pure. */

export interface EntryDifference {
  /** Operations that make what is missing, or is there with other values. */
  readonly missing: readonly NeighborOperation[];
  /** Operations that remove what should not be there. */
  readonly foreign: readonly NeighborOperation[];
  /** Operations that remove entries which nothing went by for long; only where they are installed when asked for. */
  readonly idle: readonly NeighborOperation[];
  /** How many entries there should be. */
  readonly expected: number;
}

type Added = Extract<NeighborOperation, { op: "neighbor.add" | "fdb.add" }>;

/** The entries of other hosts' endpoints that a plan makes on these devices. */
const entriesOf = (work: Plan, devices: readonly string[]): readonly Added[] =>
  work.filter(
    (operation): operation is Added =>
      (operation.op === "neighbor.add" || (operation.op === "fdb.add" && operation.destination !== undefined)) &&
      devices.includes(operation.device),
  );

type Place = Pick<NeighborEntry, "device" | "mac" | "ip" | "destination">;

const isFlood = ({ mac }: Pick<Place, "mac">): boolean => mac === "00:00:00:00:00:00";

/** What there can be one entry of: one MAC an address, one host a MAC; all hosts may be flooded to. */
const slot = (entry: Place): string => {
  if (entry.ip !== undefined) return `${entry.device} ${entry.ip}`;
  return isFlood(entry) ? `${entry.device} ${entry.mac} ${entry.destination}` : `${entry.device} ${entry.mac}`;
};

const whole = (entry: Place): string => `${slot(entry)} ${entry.ip === undefined ? entry.destination : entry.mac}`;

const removal = (namespace: string, { device, mac, ip, destination }: Place): NeighborOperation =>
  ip === undefined
    ? { op: "fdb.delete", namespace, device, mac, ...(destination !== undefined && { destination }) }
    : { op: "neighbor.delete", namespace, device, ip, mac };

/**
 * @param found the entries of the namespace
 * @param work the plan that makes all that there may be
 * @param idleAfter seconds after which an entry that is not used goes; undefined where all of them must be there
 */
export const compareEntries = (
  { namespace, devices }: { readonly namespace: string; readonly devices: readonly string[] },
  found: readonly NeighborEntry[],
  work: Plan,
  idleAfter?: number,
): EntryDifference => {
  const desired = entriesOf(work, devices);
  const wanted = new Map(desired.map((entry) => [whole(entry), entry]));
  const present = found.filter(({ device }) => devices.includes(device));
  const have = new Set(present.map(whole));
  const onDemand = idleAfter !== undefined;
  const missing = desired.filter((entry) => !have.has(whole(entry)) && (!onDemand || isFlood(entry)));
  const replaced = new Set(missing.map(slot));
  const foreign = present.filter((entry) => !wanted.has(whole(entry)) && !replaced.has(slot(entry)));
  // The kernel counts frames as use of a forwarding entry; its neighbours go with it.
  const used = new Set(
    present.flatMap(({ device, mac, ip, idle }) =>
      ip === undefined && idle < (idleAfter ?? 0) ? [`${device} ${mac}`] : [],
    ),
  );
  const idle = onDemand
    ? present.filter(
        (entry) => wanted.has(whole(entry)) && !isFlood(entry) && !used.has(`${entry.device} ${entry.mac}`),
      )
    : [];
  return {
    missing,
    foreign: foreign.map((entry) => removal(namespace, entry)),
    idle: idle.map((entry) => removal(namespace, entry)),
    expected: onDemand ? present.length - foreign.length : desired.length,
  };
};
