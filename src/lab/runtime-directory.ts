import { lstatSync, mkdirSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { forbidden } from "../errors.ts";

/** Where running labs are found: `<base>/<name>`, with the supervisor's `control.sock` in it. */

const user = (): number => process.getuid?.() ?? 0;

export const runtimeBase = (): string => {
  if (user() === 0) return "/run/dnet-lab";
  const own = process.env.XDG_RUNTIME_DIR;
  return own?.startsWith("/") ? join(own, "dnet-lab") : join(tmpdir(), `dnet-lab-${user()}`);
};

export const labDirectory = (name: string): string => join(runtimeBase(), name);
export const controlSocket = (directory: string): string => join(directory, "control.sock");

/** @throws NetworkError `lab-directory` where somebody else made it, as anybody can in /tmp */
export const makeRuntimeBase = (): string => {
  const base = runtimeBase();
  mkdirSync(base, { recursive: true, mode: 0o700 });
  const found = lstatSync(base);
  if (found.isDirectory() && found.uid === user()) return base;
  throw forbidden("lab-directory", `${base} belongs to somebody else`, { hint: "set XDG_RUNTIME_DIR" });
};

/** Removes what a lab left of its directory, and the base where it was the last one. */
export const removeDirectory = (directory: string): void => {
  rmSync(directory, { recursive: true, force: true });
  try {
    rmdirSync(runtimeBase());
  } catch {
    // Not empty, or gone already.
  }
};

/** Names of the directories there are; dead ones, too. */
export const labNames = (): readonly string[] => {
  try {
    return readdirSync(runtimeBase()).filter((name) => !name.startsWith("."));
  } catch {
    return [];
  }
};

/** True where a supervisor answers. */
export const isAlive = (directory: string): Promise<boolean> =>
  new Promise((resolve) => {
    const probe = connect(controlSocket(directory));
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    probe.once("error", () => resolve(false));
  });
