/**
 * How many random cases of a property are tried: all of them in `make test`; a part in `make check`, which is run before each commit;
 * `make fuzz` goes on for as long as it is told to.
 */
export const runs = (all: number): number => (process.env.QUICK === "1" ? Math.ceil(all / 5) : all);
