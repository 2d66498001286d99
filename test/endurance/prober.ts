import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { NamesReport, ProbeOrder, ProbeReport, ProbeRequest } from "./probe-kinds.ts";

const program = fileURLToPath(new URL("./prober-process.ts", import.meta.url));

/** Probes of many sandboxes, from a process of its own: whatever the test does, they go on. */
export class Prober {
  readonly #child: ChildProcess;

  /** @param outside process whose network namespace is the world outside */
  constructor(outside: number) {
    this.#child = spawn("nsenter", ["-t", String(outside), "-n", process.execPath, program], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
  }

  /** Servers in all sandboxes and connections to them; probing goes on when each was answered once. */
  open(order: ProbeOrder): Promise<void> {
    return this.#ask<void>({ do: "open", order });
  }

  /** @param fresh also from ports that are new each time, which costs the machine more than the rest of all probes */
  async askNames(fresh: boolean): Promise<void> {
    await this.#ask({ do: "ask-names", fresh });
  }

  names(): Promise<NamesReport> {
    return this.#ask<NamesReport>({ do: "names" });
  }

  report(): Promise<ProbeReport> {
    return this.#ask<ProbeReport>({ do: "report" });
  }

  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGKILL");
    await gone;
  }

  /** One request at a time. */
  #ask<T>(request: ProbeRequest): Promise<T> {
    return new Promise((resolve, reject) => {
      const ended = (code: number | null) => reject(new Error(`the prober ended: ${code}`));
      this.#child.once("exit", ended);
      this.#child.once("message", (message: { readonly answer?: T; readonly error?: string }) => {
        this.#child.off("exit", ended);
        if (message.error === undefined) resolve(message.answer as T);
        else reject(new Error(message.error));
      });
      this.#child.send(request);
    });
  }
}
