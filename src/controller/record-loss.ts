import * as z from "zod";
import type { Replaced } from "../store/sqlite/sqlite-store.ts";
import type { Json, Store } from "../store/store.ts";

/** Beside the records of the host, not among those of a scope. */
const key = "host/lost-records";

const schema = z.object({
  aside: z.string().max(4096),
  reason: z.string().max(4096),
  by: z.enum(["copy", "part", "empty"]),
  of: z.string().max(64).exactOptional(),
  since: z.string().max(64),
});

/**
 * Records of this host were lost: its store was damaged. Kept until somebody has looked at it, over restarts too: what no record
 * explains may be all that is left of what was lost, and is not removed meanwhile.
 */
export type RecordLoss = z.infer<typeof schema>;

/** Notes a loss at this start, and gives what an earlier one has noted. A store that cannot be written forgets it. */
export const noteLoss = async (store: Store, replaced: Replaced | undefined): Promise<RecordLoss | undefined> => {
  if (!replaced) return schema.safeParse((await store.get(key))?.value).data;
  const { aside, reason, by, of } = replaced;
  const loss: RecordLoss = { aside, reason, by, ...(of !== undefined && { of }), since: new Date().toISOString() };
  await store.transact({ puts: [{ key, value: loss as Json }] });
  return loss;
};

/** Somebody has looked, and accepts it. */
export const acceptLoss = async (store: Store): Promise<void> => {
  await store.transact({ deletes: [key] });
};

const substitutes = {
  copy: "its copy took its place",
  part: "what could be read of it is used",
  empty: "an empty one took its place",
} as const;

/** In a few words, for logs and for health. */
export const lossText = ({ aside, reason, by, of, since }: RecordLoss): string =>
  `the local store was damaged (${reason}): ${substitutes[by]}${of === undefined ? "" : `, of ${of}`}, at ${since}; the damaged file is ${aside}`;
