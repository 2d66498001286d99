import { readdirSync, readFileSync } from "node:fs";

/** How many files this process may have open: the soft limit. Infinite where it cannot be told. */
export const descriptorLimit = (): number => {
  try {
    const found = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
    return found === undefined ? Number.POSITIVE_INFINITY : Number(found);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
};

/** How many more it may open. */
export const freeDescriptors = (): number => {
  try {
    return descriptorLimit() - readdirSync("/proc/self/fd").length;
  } catch {
    return 0;
  }
};
