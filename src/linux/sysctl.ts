import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { badRequest, internal, shown } from "../errors.ts";

/** Kernel parameters below /proc/sys, of the namespace in which the calling thread is. Keys have slashes: `net/ipv4/ip_forward`. */

const pathOf = (key: string): string => {
  // Interface names may have dots in them, which is why keys are not written with dots.
  if (!/^[a-z0-9_]+(\/[A-Za-z0-9_.-]+)+$/.test(key) || key.split("/").some((part) => part === "." || part === "..")) {
    throw badRequest("invalid-sysctl", `invalid sysctl: ${shown(key)}`);
  }
  return `/proc/sys/${key}`;
};

/** A kernel that was built or started without IPv6 has none of its parameters; it need not be told to leave IPv6 off. */
const alreadyOff = (key: string, value: string): boolean =>
  key.startsWith("net/ipv6/") &&
  !existsSync("/proc/sys/net/ipv6") &&
  value === (key.endsWith("/disable_ipv6") ? "1" : "0");

/**
 * Sets a parameter. @returns its value before, or undefined where it had this value already
 * @throws NetworkError `sysctl` with errno
 */
export const setSysctl = (key: string, value: string): string | undefined => {
  const path = pathOf(key);
  try {
    const before = readFileSync(path, "utf8").trim();
    if (before === value) return undefined;
    writeFileSync(path, value);
    return before;
  } catch (cause) {
    if (alreadyOff(key, value)) return undefined;
    const { errno, code } = cause as { errno?: number; code?: string };
    const hints: Record<string, string> = {
      EROFS: "/proc/sys is read-only here; set it on the host, or run dnet where it may write",
      EACCES: "this needs root",
      ENOENT: "this kernel has no such parameter, or the interface is gone",
    };
    const hint = hints[code ?? ""];
    throw internal("sysctl", `sysctl ${key}=${value}: ${code ?? "failed"}`, {
      cause,
      ...(errno !== undefined && { errno: -errno }),
      ...(hint !== undefined && { hint }),
    });
  }
};
