import type { AddressSet } from "../ipam/ipam.ts";

/** Attempts in which the lowest address is gone for before another one is. */
const patience = 3;
/** Free addresses that are passed over at most. */
const furthest = 64;

/** How many free addresses to pass over in an attempt: none at first, then up to one more with each. @param attempt from 0 */
export const passOver = (attempt: number): number =>
  attempt < patience ? 0 : Math.floor(Math.random() * Math.min(furthest, attempt));

/**
 * A set whose lowest free address is one further up, where there are so many. Whoever always goes for the lowest one, and learns
 * a little later than others which it is, loses to them every time.
 */
export const furtherFree = (taken: AddressSet, skip: number): AddressSet => ({
  has: (ip) => taken.has(ip),
  add: (ip) => taken.add(ip),
  delete: (ip) => taken.delete(ip),
  lowestFree(first, last) {
    let found = taken.lowestFree(first, last);
    for (let n = 0; n < skip && found !== undefined; n++) {
      const next = taken.lowestFree(found + 1n, last);
      if (next === undefined) break;
      found = next;
    }
    return found;
  },
});
