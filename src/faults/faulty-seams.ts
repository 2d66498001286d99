import type { Seams } from "../create-libnetwork.ts";
import type { Faults } from "./faults.ts";
import { faultyFiles } from "./faulty-files.ts";
import { FaultyKernel } from "./faulty-kernel.ts";
import { FaultyStore } from "./faulty-store.ts";

/** The library's seams with points of failure in them: stores, the kernel, files. What works there knows nothing of it. */
export const faultySeams = (faults: Faults): Seams => ({
  store: (scope, store) => new FaultyStore(faults, scope, store),
  kernel: (options) => new FaultyKernel(faults, options),
  files: (files) => faultyFiles(faults, files),
});
