import type { SubnetRequest } from "../controller/model.ts";
import { prefixContains, prefixCovers } from "../net/prefix.ts";

/**
 * Gateways and ranges with the pools that they lie in. A client pairs them by their order (the first gateway with the first
 * subnet); where one lies in another subnet that has none, that is what was meant. What lies in none stays where it is, to be refused.
 */
export const pairSubnets = (requests: readonly SubnetRequest[]): readonly SubnetRequest[] =>
  pair(pair(requests, "gateway", gatewayFits), "range", rangeFits).filter(
    ({ pool, range, gateway, auxiliary = {} }) =>
      requests.length === 1 || pool || range || gateway || Object.keys(auxiliary).length > 0,
  );

type Part = "gateway" | "range";
type Fits = (request: SubnetRequest, holder: SubnetRequest) => boolean;

const gatewayFits: Fits = ({ gateway }, { pool }) =>
  gateway !== undefined && pool !== undefined && prefixContains(pool, gateway);
const rangeFits: Fits = ({ range }, { pool }) => range !== undefined && pool !== undefined && prefixCovers(pool, range);

const pair = (requests: readonly SubnetRequest[], part: Part, fits: Fits): readonly SubnetRequest[] => {
  const strays = requests.filter((request) => request[part] !== undefined && !fits(request, request));
  const without = requests.map((request): SubnetRequest => {
    if (!strays.includes(request)) return request;
    const { [part]: _stray, ...rest } = request;
    return rest;
  });
  const result = [...without];
  for (const stray of strays) {
    const at = result.findIndex((holder) => holder[part] === undefined && fits(stray, holder));
    // No pool was given for it, or none that holds it.
    if (at < 0) return requests;
    result[at] = { ...result[at], [part]: stray[part] };
  }
  return result;
};
