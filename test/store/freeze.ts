import type { ChildProcess } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { eventually } from "../own-host.ts";

/** Stops every thread of a server (SIGSTOP), and waits until that is so: connections stay, nothing is answered. SIGCONT ends it. */
export const freeze = async (child: ChildProcess | undefined): Promise<void> => {
  child?.kill("SIGSTOP");
  const tasks = `/proc/${child?.pid}/task`;
  // Behind the name, in parentheses, comes the state; T is stopped.
  const stopped = (task: string) => /\) T [^)]*$/.test(readFileSync(`${tasks}/${task}/stat`, "utf8"));
  await eventually("the server is stopped", () => readdirSync(tasks).every(stopped));
};
