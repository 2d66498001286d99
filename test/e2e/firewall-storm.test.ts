import { type ChildProcess, spawn } from "node:child_process";
import { afterAll, beforeAll, expect, it } from "vitest";
import { enterOwnHost, eventually, expectNothingLeft, run, shell } from "../own-host.ts";
import { at, connects, Lab, Neighbour, type Sandbox } from "./firewall-lab.ts";

/**
 * Somebody flushes all rules again and again, under traffic with many networks: rules come back, and connections go on. Short here; the
 * long one is scripts/firewall-storm.sh.
 */

const size = (name: string, standard: number): number => Number(process.env[`DNET_STORM_${name}`] ?? standard);
const networks = size("NETWORKS", 10);
const endpoints = size("ENDPOINTS", 20);
const flushes = size("FLUSHES", 8);
/** Milliseconds between two flushes. */
const interval = size("INTERVAL", 300);

/** Ended whatever happens: a test that fails leaves no traffic. */
const children: ChildProcess[] = [];
let lab: Lab;
let neighbour: Neighbour;

beforeAll(async () => {
  enterOwnHost();
  neighbour = new Neighbour();
  await neighbour.connect();
  lab = await Lab.open();
});
afterAll(async () => {
  for (const child of children) child.kill("SIGKILL");
  await lab.close();
  await neighbour.close();
  expectNothingLeft();
}, 300_000);

/** A stream that began before the storm: it must be one connection from beginning to end. */
class Stream {
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | null>;
  #printed = "";

  constructor(from: Sandbox, to: string, seconds: number, ...more: readonly string[]) {
    const rate = [...more, "-b", "50M", "-t", String(seconds), "-i", "1", "--forceflush"];
    this.#child = spawn("nsenter", [from.enter, "iperf3", "-c", to, ...rate], { stdio: ["ignore", "pipe", "pipe"] });
    children.push(this.#child);
    for (const out of [this.#child.stdout, this.#child.stderr]) {
      out?.on("data", (chunk: Buffer) => {
        this.#printed += chunk.toString();
      });
    }
    this.#ended = new Promise((resolve) => this.#child.once("exit", resolve));
  }

  async started(): Promise<void> {
    await eventually("the stream runs", () => / connected to .*\n[\s\S]*bits\/sec/.test(this.#printed), 30_000);
  }

  async finish(): Promise<{ readonly status: number | null; readonly text: string }> {
    return { status: await this.#ended, text: this.#printed };
  }
}

const serve = async (place: { readonly enter: string }): Promise<ChildProcess> => {
  const child = spawn("nsenter", [place.enter, "iperf3", "-s"], { stdio: "ignore" });
  children.push(child);
  await eventually("iperf3 listens", () => at(place, "ss", "-Hltn").includes(":5201"));
  return child;
};

it("a reload storm: rules always come back, established connections go on", async () => {
  const made = [];
  for (let n = 0; n < networks; n++) made.push(await lab.network(`n${n}`));
  const sandboxes: Sandbox[] = [];
  for (let n = 0; n < endpoints; n++) {
    const network = made[n % networks];
    if (network) sandboxes.push(await lab.sandbox(`c${n}`, network));
  }
  const [first, second] = [sandboxes[0], sandboxes[networks]] as [Sandbox, Sandbox];
  const servers = [await serve(neighbour), await serve(second)];
  // Through NAT, sent by the far end: what comes in untranslated would be answered with a reset. And inside a network. The storm is
  // over before they are.
  const seconds = Math.ceil((flushes * (interval + 1500)) / 1000) + 5;
  // An iperf3 server takes one client at a time.
  const streams = [
    new Stream(first, neighbour.addresses[4], seconds, "-R"),
    new Stream(first, second.addresses.n0?.[6] ?? "", seconds),
  ];
  for (const stream of streams) await stream.started();

  lab.log.length = 0;
  const rules = () => shell("nft -s list ruleset | sed -n '/table inet dnet_[0-9a-f]* /,/^}/p'");
  const whole = rules();
  expect(whole.split("\n").length).toBeGreaterThan(100);
  const times: number[] = [];
  for (let n = 0; n < flushes; n++) {
    const began = performance.now();
    run("nft", "flush", "ruleset");
    await eventually("it is said", () => lab.log.length > n, 15_000);
    times.push(performance.now() - began);
    await eventually("the rules are back", () => rules() === whole, 15_000);
    await new Promise((resolve) => setTimeout(resolve, interval));
  }
  times.sort((a, b) => a - b);
  const repairs = lab.log.map((line) => Number(/replaced, in (\d+) ms$/.exec(line)?.[1] ?? 0)).sort((a, b) => a - b);
  console.log(
    `${networks} networks, ${sandboxes.length} endpoints, ${flushes} flushes: rules back after ${Math.round(times[flushes >> 1] ?? 0)} ms (median), ${Math.round(times.at(-1) ?? 0)} ms (longest), of which the daemon's look and repair took ${repairs[repairs.length >> 1]} ms (median), ${repairs.at(-1)} ms (longest)`,
  );

  for (const stream of streams) {
    const { status, text } = await stream.finish();
    expect(text).not.toMatch(/reset|error|refused/);
    expect(status).toBe(0);
    expect(text.match(/ connected to /g)).toHaveLength(1);
    expect(text).toMatch(/ receiver\n/);
  }
  for (const server of servers) {
    const ended = new Promise((resolve) => server.once("exit", resolve));
    server.kill("SIGKILL");
    await ended;
  }
  // What is new after it is as before it: the way out, and none between networks.
  expect(await connects(first, second.addresses.n0?.[4] ?? "", 22)).toBe(false);
  expect(lab.log.filter((line) => line.includes("found no table")).length).toBeGreaterThanOrEqual(flushes);
  expect(lab.log.filter((line) => !line.includes("found no table"))).toEqual([]);
}, 900_000);
