/**
 * Work that is done from time to time: nodes that started together do not do it together.
 * @param every milliseconds between the end of one turn and the next, give or take a fifth
 * @returns what ends it and waits for the turn that is under way
 */
export const periodically = (every: number, work: () => Promise<void>): (() => Promise<void>) => {
  let stopped = false;
  let timer: NodeJS.Timeout | undefined;
  let turn: Promise<void> = Promise.resolve();
  const plan = (): void => {
    if (stopped) return;
    const take = async (): Promise<void> => {
      turn = work();
      await turn;
      plan();
    };
    timer = setTimeout(take, every * (0.8 + Math.random() * 0.4)).unref();
  };
  plan();
  return async () => {
    stopped = true;
    clearTimeout(timer);
    await turn;
  };
};
