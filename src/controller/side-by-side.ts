/**
 * Work on many objects, some at a time: while the kernel's thread does one's part, this thread does another's.
 * The first failure is thrown when the work under way has ended, and nothing is begun after it.
 */
export const sideBySide = async <T>(all: Iterable<T>, work: (one: T) => Promise<void>, atOnce = 16): Promise<void> => {
  const left = all[Symbol.iterator]();
  let failed = false;
  const lane = async (): Promise<void> => {
    for (let next = left.next(); !failed && !next.done; next = left.next()) {
      try {
        await work(next.value);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const ends = await Promise.allSettled(Array.from({ length: atOnce }, lane));
  for (const end of ends) if (end.status === "rejected") throw end.reason;
};
