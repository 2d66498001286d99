import { type Prefix, parsePrefix } from "../../net/prefix.ts";
import type { AddressSpace } from "../ipam.ts";

const series = (count: number, pool: (n: number) => string): readonly Prefix[] =>
  Array.from({ length: count }, (_, n) => parsePrefix(pool(n)));

const pools: { [space in AddressSpace]?: readonly Prefix[] } = {};

/**
 * Local: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/20 upward. Global: 10.0.0.0/24 upward. As in the original. Made when first
 * asked for: to parse those of the global space takes a quarter of a second of a start.
 */
export const defaultPools: Readonly<Record<AddressSpace, readonly Prefix[]>> = {
  get local() {
    pools.local ??= [...series(15, (n) => `172.${17 + n}.0.0/16`), ...series(16, (n) => `192.168.${16 * n}.0/20`)];
    return pools.local;
  },
  get global() {
    pools.global ??= series(65536, (n) => `10.${n >> 8}.${n & 255}.0/24`);
    return pools.global;
  },
};
