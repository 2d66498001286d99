import type { Scope } from "../drivers/driver.ts";
import { type NetworkError, noService } from "../errors.ts";
import { type Ip, tryParseIp } from "../net/ip.ts";
import { type Prefix, tryParsePrefix } from "../net/prefix.ts";
import type { Json } from "../store/store.ts";

/** The version of every record that this program writes and reads. */
export const recordVersion = 1;

/**
 * A record that this program cannot read: written by a newer one, or damaged. It is left in the store as it is. What it seems to
 * own, as far as that can be told, goes to nobody else.
 */
export interface UnreadableRecord {
  readonly scope: Scope;
  /** Below the prefix of the scope: `networks/<id>`. */
  readonly key: string;
  readonly id: string;
  /** In the words of the model: `network web`. */
  readonly subject: string;
  readonly reason: string;
  /** Its version, where that is higher than ours. */
  readonly newer?: number;
  /** Of an endpoint: its network. */
  readonly network?: string;
  readonly addresses: readonly Ip[];
  readonly pools: readonly Prefix[];
  readonly driver?: string;
  readonly segments: readonly number[];
}

const words: Readonly<Record<string, string>> = { networks: "network", endpoints: "service", sandboxes: "container" };
/** Of lists in a record that is not trusted. */
const mostItems = 256;

/** Reads of a record what can be read of it whatever its version is. */
export const describeUnreadable = (scope: Scope, key: string, value: Json, reason: string): UnreadableRecord => {
  const [room = "", network = ""] = key.split("/");
  const id = key.slice(key.lastIndexOf("/") + 1);
  const version = fieldOf(value, "version");
  const subnets = listOf(value, "subnets");
  const driver = fieldOf(value, "driver");
  const name = fieldOf(value, room === "sandboxes" ? "container" : "name");
  return {
    scope,
    key,
    id,
    subject: `${words[room] ?? "record"} ${typeof name === "string" && /^[\w.-]{1,128}$/.test(name) ? name : id.slice(0, 12)}`,
    reason,
    ...(typeof version === "number" && Number.isInteger(version) && version > recordVersion && { newer: version }),
    ...(room === "endpoints" && { network }),
    addresses: listOf(value, "addresses").flatMap((text) => ipOf(text) ?? []),
    pools: subnets.flatMap((subnet) => prefixIn(fieldOf(subnet, "pool")) ?? []),
    ...(typeof driver === "string" && { driver }),
    segments: subnets.flatMap((subnet) => {
      const vni = fieldOf(subnet, "vni");
      return typeof vni === "number" ? [vni] : [];
    }),
  };
};

const fieldOf = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null && Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined;

const listOf = (value: unknown, name: string): readonly unknown[] => {
  const found = fieldOf(value, name);
  return Array.isArray(found) ? found.slice(0, mostItems) : [];
};

const ipOf = (text: unknown): Ip | undefined =>
  typeof text === "string" ? tryParseIp(text.split("/")[0] ?? "") : undefined;
const prefixIn = (text: unknown): Prefix | undefined => (typeof text === "string" ? tryParsePrefix(text) : undefined);

/** The refusal of whatever depends on the record. */
export const refuseUnreadable = ({ subject, newer, reason }: UnreadableRecord): NetworkError =>
  newer === undefined
    ? noService("unreadable-record", `the record of ${subject} cannot be read: ${reason.slice(0, 200)}`, {
        hint: "see what to do with: dnet doctor",
      })
    : noService("newer-record", `${subject} was written by a newer dnet (record version ${newer}): it is left alone`, {
        hint: "use that version of dnet on this node too",
      });
