import type { Coordinate } from "./messages.ts";

/**
 * Round-trip time between two members as their network coordinates estimate it (Vivaldi with height and adjustment terms; what
 * `serf rtt` prints). Undefined where the coordinates have different dimensions or are no numbers.
 * @returns milliseconds
 */
export const roundTrip = (a: Coordinate, b: Coordinate): number | undefined => {
  if (a.vec.length !== b.vec.length) return undefined;
  const plane = Math.hypot(...a.vec.map((value, n) => value - (b.vec[n] ?? 0)));
  const raw = plane + a.height + b.height;
  const adjusted = raw + a.adjustment + b.adjustment;
  // The adjustment may not make a distance negative.
  const seconds = adjusted > 0 ? adjusted : raw;
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1_000 : undefined;
};
