// make bench: drives the REST API and prints p50 and p99 beside the floor of the same run. Options: --cycles N (of the memory part).
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Figures, ms, quantileOf } from "./figures.ts";
import { Floor, hundred } from "./floor.ts";
import { enterHost, startDaemon } from "./host.ts";
import { cni, docker } from "./peers.ts";
import { Rest } from "./rest.ts";

const { values } = parseArgs({
  options: { rounds: { type: "string", default: "200" }, cycles: { type: "string", default: "0" } },
});
const rounds = Number(values.rounds);

const cycle = async (rest: Rest, network: string, name: string, figures: Figures): Promise<void> => {
  const began = performance.now();
  const sandbox = await figures.time("sandbox create", () =>
    rest.call<string>("POST", "/sandboxes", { container_id: name }),
  );
  const service = await figures.time("publish", () =>
    rest.call<string>("POST", "/services", { name, network_name: network }),
  );
  await figures.time("attach", () => rest.call("POST", `/services/${service}/backend`, { sandbox_id: sandbox }));
  await figures.time("detach", () => rest.call("DELETE", `/services/${service}/backend/${sandbox}`));
  await figures.time("unpublish", () => rest.call("DELETE", `/services/${service}`, {}));
  await figures.time("sandbox delete", () => rest.call("DELETE", `/sandboxes/${sandbox}`));
  figures.add("whole cycle", performance.now() - began);
};

const printTable = (title: string, figures: Figures, floor: Figures): void => {
  console.log(`\n${title}\n${"".padEnd(24)}     p50      p99    floor p50   ratio (ms)`);
  for (const name of figures.names()) {
    const base = floor.at(name, 0.5);
    const ratio = Number.isNaN(base) ? "" : `${ms(base)}     ${(figures.at(name, 0.5) / base).toFixed(2)}`;
    console.log(`${name.padEnd(24)}${ms(figures.at(name, 0.5))} ${ms(figures.at(name, 0.99))}     ${ratio}`);
  }
};

/** The command as people type it: it finds compiled code beside the bundle. */
const dnet = fileURLToPath(new URL("../bin/dnet", import.meta.url));

const cli = (): void => {
  const time = (command: string, ...args: readonly string[]): number => {
    const began = performance.now();
    const { status } = spawnSync(command, args, { stdio: "ignore" });
    if (status !== 0) throw new Error(`${command} ${args.join(" ")}: status ${status}`);
    return performance.now() - began;
  };
  const empty = fileURLToPath(new URL("./empty.cjs", import.meta.url));
  const [empties, lists]: [number[], number[]] = [[], []];
  for (let n = 0; n < 50; n++) {
    empties.push(time(process.execPath, empty));
    lists.push(time(dnet, "-H", "unix:///run/bench.sock", "network", "ls"));
  }
  const [base, list] = [quantileOf(empties, 0.5), quantileOf(lists, 0.5)];
  console.log(
    `\ncli: network ls ${ms(list)} ms, an empty Node script ${ms(base)} ms, ratio ${(list / base).toFixed(2)}`,
  );
};

const names = async (rest: Rest): Promise<void> => {
  if (spawnSync("dnsperf", ["-h"]).error) {
    console.log("\ndns: dnsperf is not installed (apt-get install dnsperf): not measured");
    return;
  }
  const sandboxes = await rest.call<readonly { key: string }[]>("GET", "/sandboxes");
  const [first] = sandboxes;
  if (!first) return;
  const queries = "/run/queries";
  writeFileSync(queries, Array.from({ length: sandboxes.length }, (_, n) => `up${n} A\n`).join(""));
  const perf = (...more: readonly string[]) =>
    spawn(
      "nsenter",
      [`--net=${first.key}`, "dnsperf", "-s", "127.0.0.11", "-d", queries, "-c", "10", "-q", "100", ...more],
      { stdio: ["ignore", "pipe", "ignore"] },
    );
  const output = async (child: ChildProcess): Promise<string> => {
    let text = "";
    child.stdout?.on("data", (bytes: Buffer) => (text += bytes.toString()));
    await once(child, "close");
    return text;
  };
  const find = (text: string, pattern: RegExp) => pattern.exec(text)?.[1] ?? "?";
  const fast = await output(perf("-l", "5"));
  const rate = find(fast, /Queries per second:\s+(\S+)/);
  const mean = Number(find(fast, /Average Latency \(s\):\s+(\S+)/)) * 1000;
  console.log(`\ndns from one sandbox, 10 clients, 100 outstanding: ${rate}/s, mean ${mean.toFixed(2)} ms`);
  // dnsperf prints no percentiles, and what it prints of each answer costs it more than the answer: a client beside it measures.
  const load = output(perf("-l", "6", "-Q", "19800"));
  const probe = fileURLToPath(new URL("./dns-probe.cjs", import.meta.url));
  const answers = await output(
    spawn("nsenter", [`--net=${first.key}`, process.execPath, probe, "up0", "4"], {
      stdio: ["ignore", "pipe", "inherit"],
    }),
  );
  const steady = await load;
  const { took, lost } = JSON.parse(answers) as { took: number[]; lost: number };
  const figures = [0.5, 0.99, 0.999].map((quantile) => quantileOf(took, quantile).toFixed(2));
  const answered = find(steady, /Queries per second:\s+(\S+)/);
  console.log(
    `dns at 20,000/s: ${answered}/s answered to dnsperf, ${find(steady, /Queries lost:\s+(.*)/)} lost; a client beside it that asks 200/s: p50 p99 p99.9 ${figures.join(" ")} ms, ${lost} lost`,
  );
};

const bench = async (): Promise<void> => {
  const floor = new Figures();
  const bare = new Floor(floor);
  await bare.keep(1000);
  const daemon = await startDaemon();
  const rest = new Rest(daemon.socket);
  try {
    await rest.call("POST", "/networks", { name: "bench" });
    const kept = new Figures();
    const before = daemon.memory();
    const ids: [string, string][] = [];
    for (let n = 0; n < 1000; n++) {
      const name = `up${n}`;
      if (n === 300) {
        console.log(
          `\nmemory: ${before.toFixed(1)} MiB with no endpoint, ${daemon.memory().toFixed(1)} MiB with 300 kept up`,
        );
        await names(rest);
        // Idle meanwhile, its connections were closed by the daemon.
        rest.close();
      }
      const sandbox = await kept.time("sandbox create", () =>
        rest.call<string>("POST", "/sandboxes", { container_id: name }),
      );
      const service = await kept.time("publish", () =>
        rest.call<string>("POST", "/services", { name, network_name: "bench" }),
      );
      const start = performance.now();
      await rest.call("POST", `/services/${service}/backend`, { sandbox_id: sandbox });
      kept.add(hundred(n), performance.now() - start);
      ids.push([sandbox, service]);
    }
    printTable("1,000 endpoints kept up: does attach get slower?", kept, floor);
    for (const [sandbox] of ids) await rest.call("DELETE", `/sandboxes/${sandbox}`);

    const networks = new Figures();
    for (let n = 0; n < Math.ceil(rounds / 4); n++) {
      const began = performance.now();
      const id = await networks.time("network create", () => rest.call<string>("POST", "/networks", { name: "n" }));
      await networks.time("network delete", () => rest.call("DELETE", `/networks/${id}`));
      networks.add("network create+delete", performance.now() - began);
      await bare.network();
    }
    printTable("networks, one at a time", networks, floor);

    const alone = new Figures();
    // By turns, so that whatever else the machine does is in both.
    for (let n = 0; n < rounds; n++) {
      await cycle(rest, "bench", `c${n}`, alone);
      await bare.cycle(n);
    }
    printTable(`${rounds} cycles, one at a time`, alone, floor);

    const four = new Figures();
    const began = performance.now();
    await Promise.all(
      Array.from({ length: 4 }, async (_, lane) => {
        for (let n = 0; n < rounds / 4; n++) await cycle(rest, "bench", `l${lane}-${n}`, four);
      }),
    );
    const perSecond = (rounds * 1000) / (performance.now() - began);
    printTable(`${rounds} cycles, four at a time: ${perSecond.toFixed(1)} cycles/s`, four, new Figures());

    const cycles = Number(values.cycles);
    if (cycles > 0) {
      const series: string[] = [];
      for (let n = 0; n <= cycles; n++) {
        if (n % (cycles / 10) === 0) series.push(daemon.memory().toFixed(0));
        await cycle(rest, "bench", `m${n}`, new Figures());
      }
      console.log(`\nmemory over ${cycles} cycles, MiB: ${series.join(" ")}`);
    }
    await cni(new Figures(), Math.ceil(rounds / 10));
    await docker(new Figures(), Math.ceil(rounds / 10), (...args) =>
      execFileSync(dnet, ["-H", "unix:///run/bench.sock", "network", ...args], { stdio: "ignore" }),
    );
    cli();
  } finally {
    bare.close();
    rest.close();
    await daemon.stop();
  }
};

if (enterHost(fileURLToPath(import.meta.url))) await bench();
