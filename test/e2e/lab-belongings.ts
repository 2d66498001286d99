import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { connect } from "node:net";
import { expect, vi } from "vitest";
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

/** A process that is no zombie, told from a later one with its number by the time of its start (proc(5), /proc/PID/stat). */
const identity = (pid: string | number): string | undefined => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : `${pid} ${fields[19]} ${stat.slice(0, stat.lastIndexOf(")") + 1)}`;
  } catch {
    return undefined;
  }
};

/**
 * Everything that a lab has: asked for while it runs, to be looked for afterwards. Processes are remembered themselves, not by their
 * namespaces: the kernel gives a namespace's number to another one as soon as it is free.
 */
export class Belongings {
  readonly #processes: readonly string[];
  readonly #ports: readonly number[];

  constructor({ supervisor, hosts, store, outside: behind, lan }: LabState) {
    const places = [...hosts, ...(store ? [store] : []), behind, lan];
    const namespaces = new Set(places.map(({ pid }) => namespace(pid, "mnt")));
    expect(namespaces.size).toBe(places.length);
    const inside = pids().filter((pid) => namespaces.has(namespace(pid, "mnt")));
    expect(inside.length).toBeGreaterThan(places.length);
    this.#processes = [supervisor, ...inside].flatMap((pid) => identity(pid) ?? []);
    this.#ports = hosts.map(({ api }) => Number(api.split(":").at(-1)));
  }

  get processes(): readonly string[] {
    return this.#processes.filter((known) => identity(known.split(" ")[0] ?? "") === known);
  }

  async expectGone(base = "/run/dnet-lab"): Promise<void> {
    await vi.waitUntil(() => this.processes.length === 0, { timeout: 30_000, interval: 20 }).catch(() => undefined);
    expect(this.processes).toEqual([]);
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
