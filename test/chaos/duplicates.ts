import { addressOf, parseInterfaceAddress, parsePrefix, prefixesOverlap } from "../../src/net/prefix.ts";
import type { SeenNetwork, SeenService } from "./history.ts";

/** What exists twice in one view of the cluster; nothing may. */
export const duplicates = (networks: readonly SeenNetwork[], services: readonly SeenService[]): readonly string[] => [
  ...twice(
    "network name",
    networks.map(({ name }) => name),
  ),
  ...twice(
    "VNI",
    networks.flatMap(({ driver, subnets }) =>
      subnets.flatMap(({ vni }) => (vni === undefined ? [] : [`${driver}/${vni}`])),
    ),
  ),
  ...overlaps(networks),
  ...twice(
    "endpoint name",
    services.map(({ network, name }) => `${network}/${name}`),
  ),
  ...twice(
    "address",
    services.flatMap(({ network, addresses }) =>
      addresses.map((address) => `${network}/${addressOf(parseInterfaceAddress(address))}`),
    ),
  ),
];

const twice = (what: string, values: readonly string[]): readonly string[] => {
  const seen = new Set<string>();
  return values.flatMap((value) => {
    if (seen.has(value)) return [`${what} twice: ${value}`];
    seen.add(value);
    return [];
  });
};

/** Pools of one scope must not overlap. */
const overlaps = (networks: readonly SeenNetwork[]): readonly string[] => {
  const pools = networks.flatMap(({ name, scope, subnets }) =>
    subnets.map(({ pool }) => ({ name, scope, pool: parsePrefix(pool) })),
  );
  return pools.flatMap((one, n) =>
    pools
      .slice(n + 1)
      .filter((other) => other.scope === one.scope && prefixesOverlap(one.pool, other.pool))
      .map((other) => `pools overlap: ${one.name} ${one.pool}, ${other.name} ${other.pool}`),
  );
};
