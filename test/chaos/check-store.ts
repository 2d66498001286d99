import {
  type EndpointRecord,
  endpointRecord,
  keys,
  type NetworkRecord,
  networkRecord,
} from "../../src/controller/records.ts";
import { addressOf } from "../../src/net/prefix.ts";
import type { StoreEntry } from "../../src/store/store.ts";
import { duplicates } from "./duplicates.ts";
import type { SeenNetwork, SeenService } from "./history.ts";

/** What the shared store holds, as records. */
export interface StoreContents {
  readonly networks: readonly NetworkRecord[];
  readonly endpoints: readonly EndpointRecord[];
  readonly keys: readonly string[];
}

const bare = (key: string): string => key.replace(/^global\//, "");

export const readContents = (entries: readonly StoreEntry[]): StoreContents => ({
  networks: entries.flatMap(({ key, value }) =>
    bare(key).startsWith("networks/") ? [networkRecord.parse(value)] : [],
  ),
  endpoints: entries.flatMap(({ key, value }) =>
    bare(key).startsWith("endpoints/") ? [endpointRecord.parse(value)] : [],
  ),
  keys: entries.map(({ key }) => bare(key)),
});

/** Keys that guard names, addresses and segments belong to a record each, and each record has all of its own. */
export const checkStore = (contents: StoreContents): readonly string[] => {
  const { networks, endpoints } = contents;
  const needed = new Set<string>([
    ...networks.flatMap(({ id, name, driver, subnets }) => [
      keys.network(id),
      keys.networkName(name),
      ...subnets.flatMap(({ vni }) => (vni === undefined ? [] : [keys.segment(driver, vni)])),
    ]),
    ...endpoints.flatMap(({ id, network, name, addresses }) => [
      keys.endpoint(network, id),
      keys.endpointName(network, name),
      keys.networkUse(network),
      ...addresses.map((address) => keys.address(network, addressOf(address))),
    ]),
  ]);
  // A network that had endpoints once keeps this; it goes with the network.
  const allowed = new Set<string>([keys.pools, ...networks.map(({ id }) => keys.networkUse(id))]);
  const present = new Set(contents.keys);
  const known = new Set(networks.map(({ id }) => id));
  return [
    ...contents.keys.filter((key) => !needed.has(key) && !allowed.has(key)).map((key) => `orphan in the store: ${key}`),
    ...[...needed].filter((key) => !present.has(key)).map((key) => `missing in the store: ${key}`),
    ...endpoints.filter(({ network }) => !known.has(network)).map(({ name }) => `endpoint ${name} of no network`),
    ...duplicates(networks.map(networkOf), endpoints.map(endpointOf)).map((text) => `in the store: ${text}`),
  ];
};

export const networkOf = ({ id, name, driver, scope, subnets }: NetworkRecord): SeenNetwork => ({
  id,
  name,
  driver,
  scope,
  subnets: subnets.map(({ pool, vni }) => ({ pool, ...(vni !== undefined && { vni }) })),
});

/** As a node shows it that the sandbox is not on. */
export const endpointOf = ({ id, name, network, addresses }: EndpointRecord): SeenService => ({
  id,
  name,
  network,
  addresses,
});
