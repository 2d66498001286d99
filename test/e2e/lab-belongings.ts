import { existsSync, readdirSync, readlinkSync } from "node:fs";
import { connect } from "node:net";
import { expect } from "vitest";
import type { LabState } from "../../src/lab/lab-state.ts";
import { eventually, expectNothingLeft } from "../own-host.ts";
import { ok } from "./dnet.ts";

/** The running labs, as `dnet lab ls` tells of them. */
export const states = (): readonly LabState[] => JSON.parse(ok("lab", "ls", "--format", "json")) as LabState[];

const pids = (): readonly string[] => readdirSync("/proc").filter((name) => /^\d+$/.test(name));
/** Identity of a process's namespace; empty where there is none, or a zombie: it holds nothing. */
export const namespace = (pid: string | number, kind: "net" | "mnt"): string => {
  try {
    return readlinkSync(`/proc/${pid}/ns/${kind}`);
  } catch {
    return "";
  }
};

/** Everything that a lab has: asked for while it runs, to be looked for afterwards. */
export class Belongings {
  readonly #supervisor: number;
  readonly #namespaces: ReadonlySet<string>;
  readonly #ports: readonly number[];

  constructor({ supervisor, hosts, store, outside: behind, lan }: LabState) {
    const places = [...hosts, ...(store ? [store] : []), behind, lan];
    this.#namespaces = new Set(places.flatMap(({ pid }) => [namespace(pid, "net"), namespace(pid, "mnt")]));
    expect(this.#namespaces.size).toBe(2 * places.length);
    expect(this.processes.length).toBeGreaterThanOrEqual(places.length);
    this.#supervisor = supervisor;
    this.#ports = hosts.map(({ api }) => Number(api.split(":").at(-1)));
  }

  get processes(): readonly string[] {
    return pids().filter(
      (pid) =>
        Number(pid) === this.#supervisor ||
        this.#namespaces.has(namespace(pid, "net")) ||
        this.#namespaces.has(namespace(pid, "mnt")),
    );
  }

  async expectGone(base = "/run/dnet-lab"): Promise<void> {
    await eventually("no process of the lab is left", () => this.processes.length === 0, 30_000);
    await eventually("its directory is gone", () => !existsSync(base), 30_000);
    for (const port of this.#ports) {
      const answer = await new Promise((resolve) => {
        const socket = connect(port, "127.0.0.1", () => resolve("connected"));
        socket.once("error", ({ code }: Error & { code?: string }) => resolve(code));
      });
      expect(answer).toBe("ECONNREFUSED");
    }
    expect(states()).toEqual([]);
    expectNothingLeft();
  }
}
