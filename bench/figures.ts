/** Times in milliseconds, by what was done. */
export class Figures {
  readonly #times = new Map<string, number[]>();

  async time<T>(what: string, work: () => T | Promise<T>): Promise<T> {
    const began = performance.now();
    const result = await work();
    this.add(what, performance.now() - began);
    return result;
  }

  add(what: string, milliseconds: number): void {
    const times = this.#times.get(what);
    if (times) times.push(milliseconds);
    else this.#times.set(what, [milliseconds]);
  }

  at(what: string, quantile: number): number {
    return quantileOf(this.#times.get(what) ?? [], quantile);
  }

  names(): readonly string[] {
    return [...this.#times.keys()];
  }
}

export const quantileOf = (times: readonly number[], quantile: number): number => {
  const sorted = [...times].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * quantile))] ?? Number.NaN;
};

export const ms = (value: number): string => value.toFixed(value < 10 ? 2 : 1).padStart(8);
