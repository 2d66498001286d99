// 100,000 allocations in a /15: the cost of one must not grow. Run: node bench/ipam.ts
import { DefaultIpam } from "../src/ipam/default/default-ipam.ts";
import { SparseAddressSet } from "../src/ipam/default/sparse-address-set.ts";
import { addressOf, parsePrefix } from "../src/net/prefix.ts";

const pool = parsePrefix("10.0.0.0/15");
const ipam = new DefaultIpam();
const taken = new SparseAddressSet();
const costs: number[] = [];
for (let tenth = 0; tenth < 10; tenth++) {
  const began = performance.now();
  for (let n = 0; n < 10_000; n++) taken.add(addressOf(ipam.chooseAddress({ pool }, taken)));
  costs.push(((performance.now() - began) * 1000) / 10_000);
}
console.log(
  `ipam: 100,000 allocations in ${pool}, microseconds each, by tenth: ${costs.map((c) => c.toFixed(2)).join(" ")}`,
);
console.log(`ipam: last tenth against first: ${((costs[9] ?? 0) / (costs[0] ?? 1)).toFixed(2)}`);
