import { setFlagsFromString } from "node:v8";

/**
 * The middle tier of the compiler as the last one; a heap that grows slowly; code that did not run lately goes at the next
 * collection.
 */
const flags = ["--no-turbofan", "--optimize-for-size", "--bytecode-old-age=1", "--flush-baseline-code"];

/**
 * From here on V8 keeps this process small, at the price of speed that a daemon which waits for the kernel does not need. Not on
 * Node's command line: with any of these flags there V8 refuses the code of Node that was compiled ahead, in every thread, and a
 * start takes half as long again. (Node warns of flags that are set while a program runs; these are read each time they matter.)
 */
export const keepHeapSmall = (): void => {
  for (const flag of flags) setFlagsFromString(flag);
};
