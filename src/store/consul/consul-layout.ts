import { z } from "zod";
import type { Json, StoreEntry } from "../store.ts";

/**
 * Where things lie in Consul. Below `<prefix>/`: the entries by their keys, each value the JSON text itself; and three rooms of
 * our own, which no caller sees:
 *
 *     .revision      {"sequence": S, "id": ...}: the last transaction. Every transaction sets it, checked against the one before.
 *     .log/<slot>    what transaction S changed, in a ring of 512 slots: who watches reads these instead of everything.
 *     .leases/<id>   a mark held by the lease's session: it goes when the session does, and Consul says so.
 */

export const ringSize = 512;
export const revisionKey = ".revision";
export const leasesRoom = ".leases/";
export const logKey = (sequence: number): string => `.log/${String(sequence % ringSize).padStart(3, "0")}`;
export const leaseKey = (lease: string): string => leasesRoom + lease;
/** Keys of our own begin with a dot. */
export const isReserved = (key: string): boolean => key.startsWith(".");

/** A transaction's place in the order of all: the number, a random id that no other has, and Consul's index (version of its puts). */
export interface Position {
  readonly sequence: number;
  readonly id: string;
  readonly index: number;
}

/** Before the first transaction. */
export const nowhere: Position = { sequence: 0, id: "", index: 0 };

const sequence = z.int().min(0);
const id = z.string().max(64);
const revisionValue = z.object({ sequence, id });

const logValue = z.object({
  sequence,
  id,
  /** Id of the transaction before it: a chain that breaks where a server was replaced or restored. */
  after: id,
  /** Too much for one value: whoever follows lists everything again. */
  list: z.literal(true).optional(),
  puts: z.array(z.object({ key: z.string(), value: z.unknown(), lease: z.string().optional() })).optional(),
  deletes: z.array(z.string()).optional(),
});
export type LogValue = z.infer<typeof logValue>;

/** One key as Consul has it: the value is text. */
export interface KeyValue {
  readonly key: string;
  readonly text: string;
  readonly index: number;
  readonly session: string | undefined;
}

/** The value of anything JSON; null where it is none: one that somebody edited must not make the others unreadable. */
export const parseValue = (text: string): Json => {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return null;
  }
};

/** The position that the revision's value says; one that cannot be read counts as a fresh start, which the next writer repairs. */
export const parseRevision = (found: KeyValue | undefined): Position => {
  if (!found) return nowhere;
  const parsed = revisionValue.safeParse(parseValue(found.text));
  return parsed.success ? { ...parsed.data, index: found.index } : { ...nowhere, index: found.index };
};

/** Undefined where it is none. */
export const parseLog = (text: string): LogValue | undefined => logValue.safeParse(parseValue(text)).data;

export const toEntry = (prefix: string, { key, text, index }: KeyValue): StoreEntry => ({
  key: key.slice(prefix.length),
  value: parseValue(text),
  version: index,
});
