import { execFile } from "node:child_process";
import { join } from "node:path";
import { readLog } from "./bounded-log.ts";
import { LabPlace, type Ran, statusOf } from "./lab-place.ts";
import { projectRoot } from "./programs.ts";

/** A host of a lab, with its daemon. */
export class LabHost extends LabPlace {
  /** The daemon's: the caller may edit it; it counts from the next start on. */
  get configPath(): string {
    return join(this.directory, "dnet.toml");
  }

  /** The daemon's unix socket, reachable by the caller. */
  get socketPath(): string {
    return join(this.directory, "dnet.sock");
  }

  get logPath(): string {
    return join(this.directory, "dnet.log");
  }

  /** What the daemon has logged, over all its starts. */
  get log(): string {
    return readLog(this.logPath);
  }

  /** `dnet ARGS` of the caller, against this host's daemon. */
  dnet(...args: readonly string[]): Promise<Ran> {
    const all = ["-H", `unix://${this.socketPath}`, ...args];
    return new Promise((resolve) => {
      execFile(
        join(projectRoot(), "bin", "dnet"),
        all,
        { encoding: "utf8", timeout: 120_000 },
        (error, stdout, stderr) => resolve({ status: statusOf(error), stdout, stderr }),
      );
    });
  }

  /** Ends the daemon and waits for its end; sandboxes stay. */
  kill(signal: "KILL" | "TERM" = "KILL"): Promise<void> {
    return this.lab.ask({ do: "stop", host: this.name, signal });
  }

  /**
   * Starts the daemon, where it does not run, and waits until it answers.
   * @param options.fresh a new machine in this one's place: nothing is left of the old one
   */
  start(options: { readonly fresh?: boolean } = {}): Promise<void> {
    if (options.fresh) return this.lab.ask({ do: "reboot", host: this.name, fresh: true });
    return this.lab.ask({ do: "start", host: this.name });
  }

  /** Power off, power on: processes, namespaces and /run are gone, the disk (/var/lib/docker, /etc/docker) stays. */
  reboot(): Promise<void> {
    return this.lab.ask({ do: "reboot", host: this.name, fresh: false });
  }
}
