import type { Scope } from "../../drivers/driver.ts";
import { type Check, type Finding, type Look, repairCommand } from "./check.ts";

/** Records that do not fit their schema: damaged ones, and those of a newer dnet. */
export const recordsCheck: Check = {
  name: "records",
  run: async ({ context: { state } }) =>
    state.unreadable.map(({ scope, key, subject, reason, newer }): Finding => {
      const shared = { subject: `${subject} (key ${scope}/${key})`, what: reason.slice(0, 300) };
      if (newer !== undefined) {
        return {
          ...shared,
          code: "newer-record",
          what: `it was written by a newer dnet: record version ${newer}`,
          expected: "records of version 1",
          consequence:
            "it is left alone: not shown, not changed, what it has in the kernel stays, and what needs it is refused",
          remedy: "use that version of dnet on this node too",
          repairable: false,
        };
      }
      return {
        ...shared,
        code: "invalid-record",
        expected: "a record that fits its schema",
        consequence: "it is not shown, and its name and addresses go to nobody else; what it has in the kernel stays",
        remedy: `put it right in the store, or let ${repairCommand} set it aside, below the key quarantine/: then what it had in the kernel is removed`,
        repairable: true,
      };
    }),
  repair: setAside,
};

/** Of records set aside in each store; the oldest go by hand. */
const mostKept = 1_000;

/** Moves what cannot be read and is not newer to where nobody reads it; keys that it guarded are found without an owner then. */
async function setAside(look: Look): Promise<readonly string[]> {
  const done: string[] = [];
  for (const { scope, key, subject, newer } of look.context.state.unreadable) {
    if (newer !== undefined || (scope === "global" && look.stale !== undefined)) continue;
    if (await move(look, scope, key)) done.push(`${subject}: its record was moved to quarantine/${scope}/${key}`);
  }
  return done;
}

const move = async ({ context: { state }, stores, signal }: Look, scope: Scope, key: string): Promise<boolean> => {
  const store = stores[scope];
  const [entry, kept] = [await store.get(`${scope}/${key}`, signal), await store.list(`quarantine/${scope}/`, signal)];
  if (!entry || kept.length >= mostKept) return false;
  await store.transact({ puts: [{ key: `quarantine/${scope}/${key}`, value: entry.value }] }, signal);
  return state.commit(scope, { unchanged: [key], deletes: [key] }, signal);
};
