import { ipToBigInt } from "../../net/ip.ts";
import { addressOf, type Prefix, prefixFamily, prefixRange } from "../../net/prefix.ts";
import type { NetworkRecord } from "../records.ts";
import type { Check, Finding, Look } from "./check.ts";

/** Part of a subnet's addresses that is free at least, in per cent, before it is said. */
const leastFree = 10n;

/** How full networks are: services cannot be published where nothing is left. Subnets of IPv6 do not fill up. */
export const addressesCheck: Check = {
  name: "addresses",
  run: async (look) => [...look.context.state.networks.values()].flatMap((network) => fullSubnets(look, network)),
};

const fullSubnets = ({ context: { state } }: Look, network: NetworkRecord): readonly Finding[] => {
  const four = network.subnets.filter(({ pool }) => prefixFamily(pool) === 4);
  const taken = new Set([
    ...state.endpointsOf(network.id).flatMap(({ addresses }) => addresses.map(addressOf)),
    ...four.flatMap(({ gateway }) => (gateway ? [addressOf(gateway)] : [])),
    ...Object.values(network.auxiliary),
  ]);
  const values = [...taken].filter((ip) => !ip.includes(":")).map(ipToBigInt);
  const counts = four.map(({ pool, range = pool }) => {
    const { first, last } = choosable(pool, range);
    const used = BigInt(values.filter((value) => value >= first && value <= last).length);
    return { range, size: last - first + 1n, used };
  });
  // The next subnet takes over where one is full: what counts is all of them.
  const size = counts.reduce((sum, count) => sum + count.size, 0n);
  const used = counts.reduce((sum, count) => sum + count.used, 0n);
  if (size === 0n || (size - used) * 100n >= size * leastFree) return [];
  return [
    {
      code: "addresses-nearly-exhausted",
      subject: `network ${network.name}`,
      what: `${used} of ${size} addresses of ${counts.map(({ range }) => range).join(" and ")} are taken`,
      expected: `${leastFree} per cent free`,
      consequence: "when none is left no service can be published on the network",
      remedy: "unpublish services that are not needed, or make a network with a larger --subnet",
      repairable: false,
    },
  ];
};

/** Addresses that are given out: those of the range, without the subnet's first and last. */
const choosable = (pool: Prefix, range: Prefix) => {
  const [outer, inner] = [prefixRange(pool), prefixRange(range)];
  return {
    first: inner.first === outer.first ? inner.first + 1n : inner.first,
    last: inner.last === outer.last ? inner.last - 1n : inner.last,
  };
};
