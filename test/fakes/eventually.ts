/** Waits for what comes on the next turns. */
export const eventually = async (what: string, condition: () => boolean) => {
  const end = performance.now() + 5_000;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not within 5 s: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
};
