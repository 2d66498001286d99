import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { pause } from "../backoff.ts";

/**
 * What a serf agent leaves on disk so that the next daemon recognises it: process id and start time (a process id alone may be
 * somebody else's by then).
 */

interface AgentProcess {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks since boot. */
  readonly started: string;
}

/** Undefined where there is no such process, or only its remains: no thread of it that could hold a port. */
const startOf = (pid: number): string | undefined => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name, in brackets, may hold anything.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" && readdirSync(`/proc/${pid}/task`).length <= 1 ? undefined : fields[19];
  } catch {
    return undefined;
  }
};

export const noteAgent = (file: string, pid: number): void => {
  const started = startOf(pid);
  if (started !== undefined)
    writeFileSync(file, JSON.stringify({ pid, started } satisfies AgentProcess), { mode: 0o600 });
};

const readNote = (file: string): AgentProcess | undefined => {
  try {
    const { pid, started } = JSON.parse(readFileSync(file, "utf8")) as { pid?: unknown; started?: unknown };
    return Number.isSafeInteger(pid) && Number(pid) > 1 && typeof started === "string"
      ? { pid: Number(pid), started }
      : undefined;
  } catch {
    return undefined;
  }
};

/**
 * Ends the agent that a killed daemon left, when it still runs.
 * @returns its process id when there was one
 */
export const endStaleAgent = async (file: string, signal: AbortSignal): Promise<number | undefined> => {
  const note = readNote(file);
  rmSync(file, { force: true });
  const runs = () => note !== undefined && startOf(note.pid) === note.started;
  if (!note || !runs()) return undefined;
  process.kill(note.pid, "SIGKILL");
  const end = performance.now() + 5_000;
  while (runs() && performance.now() < end && !signal.aborted) await pause(10, signal);
  return note.pid;
};
