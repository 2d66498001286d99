import { mkdirSync, rmSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { enterOwnHost, expectNothingLeft, leftovers, run, shell } from "../own-host.ts";
import { EtcdServer } from "../store/etcd-server.ts";
import type { Scenario } from "./scenarios.ts";
import { buildWalker, removeWalker, type Walk, walk } from "./walk.ts";

/**
 * Every operation, failing and dying at every point of the seams it passes: it has happened, or it has not; doctor finds nothing;
 * it can be repeated and undone; nothing is left. `make faults` walks all points, a run of the tests one in some.
 */

const every = process.env.FAULTS === "all" ? 1 : Number(process.env.FAULTS ?? "40");
const only = process.env.FAULTS_OF ?? "";

/** The next operation begins on a host without a past. */
const forgetPast = (): void => rmSync("/var/lib/docker/network", { recursive: true, force: true });

export const walkEach = (scenarios: readonly Scenario[]): void => {
  const chosen = scenarios.filter(({ name }) => name.includes(only));
  const etcd = new EtcdServer();
  const walks = new Map<string, Walk>();

  beforeAll(async () => {
    enterOwnHost();
    mkdirSync("/run/faults");
    shell(
      "ip link add under0 type veth peer name under1; ip address add 10.9.0.1/24 dev under0; ip link set under0 up; ip link set under1 up",
    );
    await Promise.all([buildWalker(), etcd.start()]);
  });

  afterAll(async () => {
    removeWalker();
    await etcd.remove();
    run("ip", "link", "delete", "under0");
    rmSync("/run/faults", { recursive: true });
    const sum = (what: "points" | "walked" | "happened" | "repaired" | "restarted") =>
      [...walks.values()].reduce((total, each) => total + each[what], 0);
    console.log(
      `faults: ${walks.size} operations with ${sum("points")} points, ${every === 1 ? "all" : `one in ${every}`} walked: ` +
        `${sum("walked")} failures and deaths, ${sum("happened")} after which the operation had happened, ` +
        `${sum("repaired")} failures that left something to a repair, ${sum("restarted")} to the next start`,
    );
    expectNothingLeft();
  });

  it.each(chosen.map((scenario) => [scenario.name, scenario] as const))(
    "%s",
    async (name, scenario) => {
      const before = leftovers();
      const place = {
        notes: "/run/faults/notes.json",
        ...(scenario.store === "etcd" && { etcd: `${etcd.address}/${name.replace(/[^a-z]+/g, "-")}` }),
      };
      const result = await walk(scenario, place, every);
      walks.set(name, result);
      const { points, walked, problems } = result;
      console.log(`${name}: ${points} points, ${walked} failures and deaths, ${problems.length} problems`);
      for (const problem of problems) console.error(problem);
      const after = leftovers();
      forgetPast();
      expect(result.problems.join("\n")).toBe("");
      expect(after).toEqual(before);
      expect(result.walked).toBeGreaterThan(0);
    },
    3_600_000,
  );
};
