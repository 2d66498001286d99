import { lstatSync, mkdirSync, readdirSync, renameSync, rmdirSync, rmSync } from "node:fs";
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

/** Where a lab's directory is made before it gets its name, or goes when it is removed: hidden, with the pid of who does that. */
export const hiddenDirectory = (name: string): string => join(runtimeBase(), `.${name}.${process.pid}`);

const processExists = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code === "EPERM";
  }
};

/** Removes the directory of a dead lab; puts it back where a new lab has taken the name in the meantime. */
const reap = async (name: string): Promise<void> => {
  const hidden = hiddenDirectory(name);
  rmSync(hidden, { recursive: true, force: true });
  renameSync(labDirectory(name), hidden);
  if (await isAlive(hidden)) renameSync(hidden, labDirectory(name));
  else removeDirectory(hidden);
};

/**
 * Removes directories that nobody answers for: a supervisor that is killed in its first moments, or together with the lab's first
 * process, has nobody to do it.
 */
export const reapDead = async (): Promise<void> => {
  for (const entry of entries()) {
    try {
      const owner = /^\..*\.(\d+)$/.exec(entry)?.[1];
      if (owner === undefined && !(await isAlive(labDirectory(entry)))) await reap(entry);
      if (owner !== undefined && !processExists(Number(owner))) removeDirectory(join(runtimeBase(), entry));
    } catch {
      // Somebody else was faster.
    }
  }
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

const entries = (): readonly string[] => {
  try {
    return readdirSync(runtimeBase());
  } catch {
    return [];
  }
};

/** Names of the directories there are; dead ones, too. */
export const labNames = (): readonly string[] => entries().filter((name) => !name.startsWith("."));

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
