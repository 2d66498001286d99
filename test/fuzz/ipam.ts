import fc from "fast-check";
import { NetworkError } from "../../src/errors.ts";
import { DefaultIpam } from "../../src/ipam/default/default-ipam.ts";
import { SparseAddressSet } from "../../src/ipam/default/sparse-address-set.ts";
import type { AddressSpace } from "../../src/ipam/ipam.ts";
import { type Ip, ipFromBigInt } from "../../src/net/ip.ts";
import {
  addressOf,
  type Prefix,
  parsePrefix,
  prefixContains,
  prefixesOverlap,
  prefixFamily,
  prefixRange,
} from "../../src/net/prefix.ts";
import { fuzzTarget } from "./target.ts";

const asked = [
  "10.0.0.0/8",
  "10.1.0.0/29",
  "10.2.0.0/30",
  "172.18.0.0/15",
  "192.168.4.0/24",
  "fd00:9::/124",
  "fd00::/64",
  "0.0.0.0/0",
];
type Step =
  | { readonly do: "pool"; readonly pool: string | undefined; readonly family: 4 | 6; readonly space: AddressSpace }
  | { readonly do: "drop"; readonly at: number }
  | { readonly do: "take"; readonly at: number; readonly address: number | undefined }
  | { readonly do: "give"; readonly at: number; readonly which: number }
  | { readonly do: "crash" };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    do: fc.constant("pool" as const),
    pool: fc.option(fc.constantFrom(...asked), { nil: undefined }),
    family: fc.constantFrom(4 as const, 6 as const),
    space: fc.constantFrom("local" as const, "global" as const),
  }),
  fc.record({ do: fc.constant("drop" as const), at: fc.nat(20) }),
  fc.record({ do: fc.constant("take" as const), at: fc.nat(20), address: fc.option(fc.nat(300), { nil: undefined }) }),
  fc.record({ do: fc.constant("give" as const), at: fc.nat(20), which: fc.nat(300) }),
  fc.record({ do: fc.constant("crash" as const) }),
);

interface Network {
  readonly pool: Prefix;
  readonly owned: Set<Ip>;
  /** Derived from what is owned, as after every start. */
  taken: SparseAddressSet;
}

/** What a step does; a refusal is returned. */
const attempt = (work: () => void): NetworkError | undefined => {
  try {
    work();
    return undefined;
  } catch (error) {
    if (error instanceof NetworkError) return error;
    throw error;
  }
};

class Sequence {
  readonly #ipam = new DefaultIpam({ ula: parsePrefix("fd00:1:2::/48") });
  readonly #networks: Network[] = [];

  run(each: Step): void {
    if (each.do === "pool") attempt(() => this.#choosePool(each));
    else if (each.do === "crash") for (const network of this.#networks) derive(network);
    else if (each.do === "drop") this.#networks.splice(each.at % Math.max(1, this.#networks.length), 1);
    else {
      const network = this.#networks[each.at % Math.max(1, this.#networks.length)];
      if (network && each.do === "take") this.#take(network, each.address);
      if (network && each.do === "give") giveBack(network, each.which);
    }
  }

  #choosePool({ pool, family, space }: Extract<Step, { do: "pool" }>): void {
    const pools = this.#networks.map((network) => network.pool);
    const wanted = pool === undefined ? undefined : parsePrefix(pool);
    const request = wanted ? { family: prefixFamily(wanted), space, pool: wanted } : { family, space };
    const chosen = this.#ipam.choosePool(request, { pools, avoid: [] }).pool;
    if (pools.some((other) => prefixesOverlap(other, chosen))) throw new Error(`${chosen} overlaps another`);
    this.#networks.push({ pool: chosen, owned: new Set(), taken: new SparseAddressSet() });
  }

  #take({ pool, owned, taken }: Network, offset: number | undefined): void {
    const { first, last } = prefixRange(pool);
    const family = prefixFamily(pool);
    const wanted =
      offset === undefined ? undefined : ipFromBigInt(first + (BigInt(offset) % (last - first + 1n)), family);
    const refusal = attempt(() => {
      const chosen = addressOf(this.#ipam.chooseAddress({ pool, ...(wanted && { address: wanted }) }, taken));
      if (owned.has(chosen)) throw new Error(`${chosen} is given twice`);
      if (!prefixContains(pool, chosen)) throw new Error(`${chosen} is not of ${pool}`);
      owned.add(chosen);
      taken.add(chosen);
    });
    // Without the first and, in IPv4, without the last.
    const usable = last - first - (family === 4 ? 1n : 0n);
    if (refusal?.code === "addresses-exhausted" && BigInt(owned.size) !== usable) {
      throw new Error(`${pool} is said to be full with ${owned.size} of ${usable}`);
    }
  }
}

const derive = (network: Network): void => {
  network.taken = new SparseAddressSet();
  for (const ip of network.owned) network.taken.add(ip);
};

const giveBack = ({ owned, taken }: Network, which: number): void => {
  const ip = [...owned][which % Math.max(1, owned.size)];
  if (ip === undefined) return;
  owned.delete(ip);
  taken.delete(ip);
};

/** Pools and addresses taken and given back in any order, with crashes between: none overlaps, none is given twice, none is lost. */
export const ipam = fuzzTarget(
  "ipam",
  fc.array(step, { maxLength: 60 }),
  () => ({
    check(steps) {
      const sequence = new Sequence();
      for (const each of steps) sequence.run(each);
    },
  }),
  150,
);
