// The overlay's figures: throughput against the same VXLAN by hand, networks of ten thousand endpoints, how soon an attachment is
// reached from other hosts.
//   node bench/overlay.ts      as root, after `make build`; needs iperf3 and etcd; works in namespaces of its own
import { type ChildProcess, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { OverlayLab } from "../test/e2e/overlay-lab.ts";
import { enterOwnHost } from "../test/own-host.ts";
import { ms, quantileOf } from "./figures.ts";

/** What a daemon's Node is started with. */
const flags =
  /flags="([^"]+)"/.exec(readFileSync(new URL("../bin/dnet", import.meta.url), "utf8"))?.[1]?.split(" ") ?? [];
const file = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const run = (script: string, ...args: readonly string[]): string => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--expose-gc", ...flags, file(script), ...args], {
    encoding: "utf8",
    timeout: 300_000,
  });
  if (status !== 0) throw new Error(`${script}: status ${status}\n${stdout}${stderr}`);
  return stdout;
};

console.log("throughput between two hosts (iperf3), by turns");
console.log(run("./overlay-throughput.ts"));

interface Joined {
  readonly attach: number;
  /** Milliseconds of the process, all threads. */
  readonly cpu: number;
  readonly entries: number;
  readonly neighbors: number;
  readonly memory: number;
  readonly store: number;
}
const join = (count: number, ahead: number): Joined =>
  JSON.parse(run("./overlay-controller.ts", String(count), String(ahead))) as Joined;
const show = (what: string, { attach, cpu, entries, neighbors, memory, store }: Joined): void => {
  const kernel = `${entries} forwarding entries, ${neighbors} neighbours`;
  console.log(
    `${what.padEnd(32)} ${ms(attach)} ms (CPU ${ms(cpu)}), ${kernel}; ${memory.toFixed(0)} MiB more (text of records ${store.toFixed(0)} MiB)`,
  );
};
console.log("the first endpoint of a network joins a host");
show("alone", join(0, 20_000));
show("10,000 elsewhere, ahead", join(10_000, 20_000));
show("10,000 elsewhere, on demand", join(10_000, 4_096));

const rounds = 34;
enterOwnHost();
const lab = await OverlayLab.up({ hosts: 3 });
try {
  await lab.dnet(1, "network", "create", "-d", "overlay", "bench");
  const probes: { readonly child: ChildProcess; readonly next: () => Promise<string> }[] = [];
  for (const host of [1, 2, 3]) {
    await lab.join(host, `probe${host}`, ["bench"]);
    const command = await lab.inside(host, `probe${host}`, process.execPath, file("./probe.cjs"));
    const child = await lab.lab.host(host).spawn(command, { stdio: ["pipe", "pipe", "inherit"] });
    const lines: string[] = [];
    let wake = (): void => undefined;
    let rest = "";
    child.stdout?.on("data", (chunk: Buffer) => {
      const parts = (rest + chunk.toString()).split("\n");
      rest = parts.pop() ?? "";
      lines.push(...parts);
      wake();
    });
    const next = async (): Promise<string> => {
      for (;;) {
        const line = lines.shift();
        if (line !== undefined) return line;
        await new Promise<void>((resolve) => (wake = resolve));
      }
    };
    await next();
    probes.push({ child, next });
  }
  const { hosts } = await lab.lab.state();
  const call = async <T>(host: number, method: string, path: string, body: unknown): Promise<T> => {
    const api = hosts[host - 1]?.api.replace("tcp:", "http:");
    const response = await fetch(`${api}${path}`, { method, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as T;
  };
  const [reached, attached]: [number[], number[]] = [[], []];
  let never = 0;
  for (let round = 0; round < rounds * 3; round++) {
    const host = (round % 3) + 1;
    const name = `s${round}`;
    const sandbox = await call<string>(host, "POST", "/sandboxes", { container_id: name });
    const service = await call<string>(host, "POST", "/services", { name, network_name: "bench" });
    const address = await lab.address(host, `${name}.bench`);
    const began = performance.now();
    await call(host, "POST", `/services/${service}/backend`, { sandbox_id: sandbox });
    const returned = performance.now();
    attached.push(returned - began);
    const others = probes.filter((_, n) => n !== host - 1);
    for (const { child } of others) child.stdin?.write(`${address}\n`);
    await Promise.all(
      others.map(async ({ next }) => {
        if ((await next()) === "never") never++;
        else reached.push(performance.now() - returned);
      }),
    );
  }
  const text = (list: readonly number[]): string =>
    `p50 ${ms(quantileOf(list, 0.5))} ms, p99 ${ms(quantileOf(list, 0.99))} ms, most ${ms(Math.max(...list))} ms`;
  console.log(
    `\nthree hosts and etcd, ${rounds * 3} attachments, each reached from the two other hosts (${never} never)`,
  );
  console.log(`attach (with the way out)        ${text(attached)}`);
  console.log(`reached after attach returned    ${text(reached)}`);
  for (const { child } of probes) child.stdin?.end();
} finally {
  await lab.down();
}
