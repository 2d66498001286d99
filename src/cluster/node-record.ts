import * as z from "zod";
import { type Ip, tryParseIp } from "../net/ip.ts";

/** What a node says of itself in the store: `nodes/<id>` lasts, `alive/<id>` goes with the node's lease. */

export const nodePrefix = "nodes/";
export const alivePrefix = "alive/";
export const nodeKey = (id: string): string => `${nodePrefix}${id}`;
export const aliveKey = (id: string): string => `${alivePrefix}${id}`;

const ip = z.string().transform((text, context): Ip => {
  const address = tryParseIp(text);
  if (address !== undefined) return address;
  context.addIssue({ code: "custom", message: "not an IP address" });
  return z.NEVER;
});
/** One line of printable text: it is shown in tables and logs. */
const line = (most: number) =>
  z
    .string()
    .max(most)
    .regex(/^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]*$/u);
const time = z.iso.datetime().max(40);

export const nodeIdSchema = z.string().regex(/^[0-9a-f]{8}$/);

export const nodeRecordSchema = z.object({
  version: z.literal(1),
  /** The daemon's instance: two daemons on one host have different ones. */
  id: nodeIdSchema,
  /** Name of the host. */
  name: line(253),
  /** Where other nodes reach this one. */
  address: ip,
  /** Where it ends VXLAN tunnels, when that is another address. */
  vtep: ip.exactOptional(),
  dnetVersion: line(64),
  started: time,
  serfPort: z.int().min(1).max(65535).exactOptional(),
  /** The kernel's, new with every boot of the host. */
  bootId: line(64),
  /** When the node was stopped in good order; absent while it runs and after a crash. */
  left: time.exactOptional(),
});
export type NodeRecord = z.infer<typeof nodeRecordSchema>;

export const aliveRecordSchema = z.object({ heartbeat: time });
export type AliveRecord = z.infer<typeof aliveRecordSchema>;

export type NodeState =
  /** It holds its lease. */
  | "alive"
  /** Its lease has ended without a word: crashed, or cut off from the store. */
  | "gone"
  /** It was stopped in good order. */
  | "left";

/** A node as this one sees it. */
export interface NodeInfo extends Omit<NodeRecord, "version" | "left"> {
  readonly state: NodeState;
  /** ISO time: of the start, of the stop, or when this node saw that it was gone. */
  readonly since: string;
  /** ISO time of the last heartbeat that was seen, by that node's clock. */
  readonly heartbeat?: string;
  /** Milliseconds by which its clock is ahead of ours, as its last heartbeats came in; absent before the first one that came. */
  readonly skew?: number;
}
