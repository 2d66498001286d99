import type { GarbageResource } from "../../api/resources.ts";
import { type Command, formatFlag, jsonText } from "../command.ts";

export const gcCommand: Command = {
  name: "gc",
  operands: "[NODE...]",
  count: [0, 1_000],
  brief: "Remove what nodes that will not come back have left",
  summary: `Removes the records of nodes that are gone or have left and will not come back: their services are detached from
containers that are no more, or removed. Without a NODE it lists what there is and removes nothing`,
  flags: [
    { names: ["dry-run"], kind: "boolean", help: "List what would be removed, and remove nothing" },
    { names: ["endpoints"], kind: "boolean", help: "Remove the services that are attached there, too" },
    formatFlag,
  ],
  examples: ["dnet gc", "dnet gc --dry-run host3", "dnet gc --endpoints host3 1a2b3c4d"],
  async run({ client, print, json }, args) {
    const found = await client.call<GarbageResource>("POST", "/gc", {
      nodes: args.positional,
      endpoints: args.boolean("endpoints"),
      dry_run: args.boolean("dry-run"),
    });
    if (json) return print(jsonText(found));
    const would = found.removed ? "" : "would remove: ";
    print(found.garbage.map(({ name, node, what }) => `${would}${name} (${node}): ${what}\n`).join(""));
    if (found.garbage.length === 0) print("nothing to remove\n");
  },
};
