import { readFileSync } from "node:fs";

/** Differs after every boot of the host; empty where the kernel does not tell. */
export const bootId = (): string => {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return "";
  }
};
