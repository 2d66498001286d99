/** Whether what was measured at equal points of a churn stays where it is. */

export type Series = readonly number[];

const median = (values: Series): number => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
};

/** Without the first quarter, in which caches fill: the medians of the first and of the last third. */
export const thirds = (series: Series): { readonly first: number; readonly last: number } => {
  const warm = series.slice(Math.floor(series.length / 4));
  const third = Math.max(1, Math.floor(warm.length / 3));
  return { first: median(warm.slice(0, third)), last: median(warm.slice(-third)) };
};

/** Fewer samples say nothing. */
export const fewest = 8;

/** A count of objects: the same at every point after the warm-up. @returns what is wrong */
export const notEqual = (series: Series): string | undefined => {
  if (series.length < fewest) return `only ${series.length} samples`;
  const seen = [...new Set(series.slice(Math.floor(series.length / 4)))];
  return seen.length === 1 ? undefined : `not the same at every point: ${seen.slice(0, 8).join(", ")}`;
};

/** An amount that sways: it may grow by this part and no more. @returns what is wrong */
export const grows = (series: Series, part: number): string | undefined => {
  if (series.length < fewest) return `only ${series.length} samples`;
  const { first, last } = thirds(series);
  return last <= first * (1 + part) ? undefined : `grew from ${first.toFixed(0)} to ${last.toFixed(0)}`;
};
