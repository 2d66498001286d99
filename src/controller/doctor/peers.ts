import { describe } from "../../linux/describe.ts";
import type { NeighborOperation } from "../../linux/neighbor-executor.ts";
import { compareEntries } from "../peer-entries.ts";
import type { NetworkRecord } from "../records.ts";
import { type Check, type Finding, findingsShown, type Look, repairCommand, Unlooked } from "./check.ts";

/** Neighbour and forwarding entries on overlays' devices that no endpoint explains. Those that are missing are the networks' check. */
export const peersCheck: Check = {
  name: "peers",
  async run(look) {
    const networks = look.presence.networks();
    // What is not known may still be wanted.
    if (networks.length > 0 && look.stale !== undefined) throw new Unlooked(`the shared store: ${look.stale}`);
    const found: Finding[] = [];
    for (const network of networks) found.push(...(await surplusOf(look, network)));
    return found;
  },
};

const surplusOf = async (
  { context: { kernel }, presence, signal }: Look,
  network: NetworkRecord,
): Promise<readonly Finding[]> => {
  const place = presence.place(network);
  if (!place) return [];
  const entries = (await kernel.entries(place.namespace, signal)) ?? [];
  const { foreign } = compareEntries(place, entries, presence.peersPlan(network, true));
  const more = foreign.length - findingsShown;
  return foreign.slice(0, findingsShown).map(
    (operation, n): Finding => ({
      code: "surplus-peer",
      subject: `network ${network.name}`,
      what: `${entryText(operation)}${n === findingsShown - 1 && more > 0 ? `, and ${more} more like it` : ""}`,
      expected: "none: no service of the network that is attached on another host explains it",
      consequence: "packets to that address are lost, or go to the wrong host",
      remedy: `${repairCommand}; by hand: ${describe(operation)}`,
      repairable: true,
    }),
  );
};

const entryText = (operation: NeighborOperation): string => {
  const { device, mac } = operation;
  if ("ip" in operation) return `an entry that ${operation.ip} is at ${mac} on ${device}`;
  const to =
    "destination" in operation && operation.destination !== undefined ? ` is on host ${operation.destination}` : "";
  return `an entry that ${mac}${to} on ${device}`;
};
