import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { FakeKernel } from "../../test/fakes/fake-kernel.ts";
import { internal } from "../errors.ts";
import type { FirewallNetwork } from "../linux/firewall.ts";
import type { TableDifference } from "../linux/kernel.ts";
import { type Operation, plan } from "../linux/plan.ts";
import { parsePrefix } from "../net/prefix.ts";
import { FirewallGuard } from "./firewall-guard.ts";
import { Locks } from "./locks.ts";
import { Repairs } from "./repairs.ts";

const table = "dnet_0badcafe";
const network: FirewallNetwork = {
  bridge: "br-1",
  subnets: [parsePrefix("10.1.0.0/16")],
  internal: false,
  masquerade: true,
  icc: true,
};
const gone: TableDifference = {
  table: `inet ${table}`,
  absent: true,
  missing: [],
  extra: [],
  expected: 0,
  reordered: false,
};
const nftError = () => internal("nft", "nft: No such file or directory");
const scripts = (kernel: FakeKernel): readonly string[] =>
  kernel.applied.flatMap((operation) => (operation.op === "nft.apply" ? [operation.script] : []));
const isWhole = (script: string): boolean => script.includes(`delete table inet ${table}\n`);

let kernel: FakeKernel;
let log: string[];
let guard: FirewallGuard;

beforeEach(async () => {
  vi.useFakeTimers();
  kernel = new FakeKernel();
  log = [];
  const write = (level: string, message: string) => log.push(`${level} ${message}`);
  guard = new FirewallGuard({ kernel, locks: new Locks(), log: write, repairs: new Repairs(write), table });
  await guard.restore(() => []);
});
afterEach(() => vi.useRealTimers());

describe("a change of the rules by somebody else", () => {
  it("is answered by one replacement, however many notifications tell of it", async () => {
    await guard.protect(network, plan());
    kernel.applied.length = 0;
    for (let n = 0; n < 50; n++) kernel.changeRules([gone], { program: "nft", pid: 7 });
    await vi.advanceTimersByTimeAsync(2_000);
    expect(scripts(kernel)).toHaveLength(1);
    expect(scripts(kernel)[0]).toContain('add element inet dnet_0badcafe bridges { "br-1" }');
    expect(log).toEqual([
      expect.stringMatching(
        /^warning found no table inet dnet_0badcafe \(changed by nft, process 7\), expected ours with 1/,
      ),
    ]);
  });

  it("that changed nothing of ours is looked at, at most once a second", async () => {
    kernel.applied.length = 0;
    const compare = vi.spyOn(kernel, "compareTables");
    for (let n = 0; n < 40; n++) {
      kernel.changeRules([]);
      await vi.advanceTimersByTimeAsync(100);
    }
    expect(compare.mock.calls.length).toBeGreaterThan(2);
    expect(compare.mock.calls.length).toBeLessThan(7);
    expect(scripts(kernel)).toEqual([]);
    expect(log).toEqual([]);
  });

  it("is answered later where it cannot be at once", async () => {
    let refuse = true;
    kernel.fault = () => {
      if (refuse) throw nftError();
    };
    kernel.applied.length = 0;
    kernel.changeRules([gone]);
    await vi.advanceTimersByTimeAsync(500);
    expect(log).toEqual(["error could not check the firewall: nft: No such file or directory"]);
    refuse = false;
    kernel.changeRules([gone]);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(scripts(kernel).filter(isWhole)).toHaveLength(1);
  });

  it("is not looked at any more after the end", async () => {
    await guard.close();
    kernel.applied.length = 0;
    kernel.changeRules([gone]);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(kernel.applied).toEqual([]);
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe("a network", () => {
  /** nft refuses changes of a table that is not there. */
  const withoutTable = (operation: Operation): void => {
    if (operation.op === "nft.apply" && !isWhole(operation.script)) throw nftError();
  };

  it("comes with the whole ruleset where the table was taken away", async () => {
    kernel.fault = withoutTable;
    kernel.applied.length = 0;
    await guard.protect(network, plan());
    expect(scripts(kernel).map(isWhole)).toEqual([true]);
    expect(scripts(kernel)[0]).toContain('"br-1"');
  });

  it("goes with the whole ruleset where the table was taken away", async () => {
    await guard.protect(network, plan());
    kernel.fault = withoutTable;
    kernel.applied.length = 0;
    await guard.release(network, plan());
    expect(scripts(kernel).map(isWhole)).toEqual([true]);
    expect(scripts(kernel)[0]).not.toContain('"br-1"');
  });

  it("that cannot be made is not in the ruleset afterwards", async () => {
    kernel.fault = (operation) => {
      if (operation.op === "link.add") throw internal("netlink", "no");
    };
    const create = plan({ op: "link.add", namespace: "host", link: { kind: "bridge", name: "br-1" } });
    await expect(guard.protect(network, create)).rejects.toThrow("no");
    kernel.fault = () => undefined;
    kernel.applied.length = 0;
    kernel.changeRules([gone]);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(scripts(kernel)[0]).not.toContain('"br-1"');
  });
});

describe("at the end", () => {
  it("rules that protect something stay, those of nothing go", async () => {
    await guard.protect(network, plan());
    kernel.applied.length = 0;
    await guard.close();
    expect(kernel.applied).toEqual([]);
    await guard.release(network, plan());
    kernel.applied.length = 0;
    await guard.close();
    expect(scripts(kernel)).toEqual([`add table inet ${table}\ndelete table inet ${table}\n`]);
  });
});

it("what watches and what holds connections is asked for once, and again by a repair where it could not be had", async () => {
  const refusing = new FakeKernel();
  const watch = vi.spyOn(refusing, "watchTables").mockRejectedValueOnce(new Error("no socket"));
  const hold = vi.spyOn(refusing, "holdConnections").mockRejectedValueOnce(new Error("no socket"));
  const lines: string[] = [];
  const write = (level: string, message: string) => lines.push(`${level} ${message}`);
  const other = new FirewallGuard({
    kernel: refusing,
    locks: new Locks(),
    log: write,
    repairs: new Repairs(write),
    table,
  });
  for (let n = 0; n < 3; n++) await other.restore(() => []);
  expect([watch.mock.calls.length, hold.mock.calls.length]).toEqual([2, 2]);
  expect(lines).toEqual([
    expect.stringMatching(/^warning rules are not put/),
    expect.stringMatching(/^warning established/),
  ]);
  await other.close();
});
