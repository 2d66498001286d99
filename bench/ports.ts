// node bench/ports.ts (as root): what publishing costs, and what a published port costs each request beside a rule written by hand.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Figures, quantileOf } from "./figures.ts";
import { type Daemon, enterHost, startDaemon } from "./host.ts";
import { Rest } from "./rest.ts";

const run = (program: string, ...args: readonly string[]): string =>
  execFileSync(program, args, { encoding: "utf8", maxBuffer: 1 << 28 });

/** Slices of one kind that are compared; the two ways take turns, so that the machine's other work hits both alike. */
const slices = 60;
/** Milliseconds. */
const slice = 100;

const tcpServer = `
  const net = require("node:net");
  net.createServer((socket) => {
    socket.setNoDelay(true);
    socket.on("error", () => {});
    socket.on("data", (data) => socket.write(data));
  }).listen(80, "0.0.0.0", () => process.stdout.write("ready\\n"));`;

/** Requests one after the other, over one connection or each over its own, to two ports in turns: counts of each slice. */
const tcpClient = `
  const net = require("node:net");
  const [host, ports, kind, slices, slice] = JSON.parse(process.argv[1]);
  const open = (port) => new Promise((resolve, reject) => {
    const socket = net.connect(port, host, () => { socket.setNoDelay(true); resolve(socket); });
    socket.once("error", reject);
  });
  const ask = (socket) => new Promise((resolve) => { socket.once("data", resolve); socket.write("x"); });
  const once = async (port, kept) => {
    const socket = kept ?? await open(port);
    await ask(socket);
    if (!kept) socket.resetAndDestroy();
  };
  (async () => {
    const kept = kind === "requests" ? await Promise.all(ports.map(open)) : [];
    const counts = ports.map(() => []);
    for (let n = 0; n < slices + 4; n++) {
      for (const [way, port] of ports.entries()) {
        const end = performance.now() + slice;
        let count = 0;
        while (performance.now() < end) { await once(port, kept[way]); count++; }
        // The first ones warm up.
        if (n >= 4) counts[way].push(count * 1000 / slice);
      }
    }
    process.stdout.write(JSON.stringify(counts));
    process.exit(0);
  })();`;

class Lan {
  readonly #holder: ChildProcess = spawn("unshare", ["--net", "sleep", "infinity"], { stdio: "ignore" });

  async connect(): Promise<void> {
    const own = run("readlink", "/proc/self/ns/net");
    while (run("readlink", `/proc/${this.#holder.pid}/ns/net`) === own)
      await new Promise((resolve) => setImmediate(resolve));
    const pid = String(this.#holder.pid);
    run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", pid);
    run("ip", "address", "add", "203.0.113.1/24", "dev", "lan0");
    run("ip", "link", "set", "lan0", "up");
    this.exec("ip", "address", "add", "203.0.113.2/24", "dev", "eth0");
    this.exec("ip", "link", "set", "eth0", "up");
  }

  exec(...command: readonly string[]): string {
    return run("nsenter", "-t", String(this.#holder.pid), "-n", ...command);
  }

  rates(ports: readonly number[], kind: "requests" | "connections"): readonly (readonly number[])[] {
    const given = JSON.stringify(["203.0.113.1", ports, kind, slices, slice]);
    return JSON.parse(this.exec(process.execPath, "-e", tcpClient, given)) as number[][];
  }

  close(): void {
    this.#holder.kill("SIGKILL");
  }
}

interface Sandbox {
  readonly id: string;
  readonly key: string;
}

const makeSandbox = async (rest: Rest, name: string, ports: readonly object[]): Promise<Sandbox> => {
  const id = await rest.call<string>("POST", "/sandboxes", { container_id: name, port_mapping: ports });
  return rest.call<Sandbox>("GET", `/sandboxes/${id}`);
};

/** Milliseconds of CPU that the daemon and the programs it ran have used (proc(5): ticks of 10 ms). */
const cpu = (daemon: Daemon): number => {
  const fields = readFileSync(`/proc/${daemon.process.pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks) * 10, 0);
};

/** Publishes ports and takes them back; prints times and memory. */
const publish = async (daemon: Daemon, rest: Rest, title: string, ports: readonly object[], repeat: number) => {
  const figures = new Figures();
  const before = daemon.memory();
  let peak = before;
  const attaching: number[] = [];
  for (let n = 0; n < repeat; n++) {
    const sandbox = await figures.time("create", () => makeSandbox(rest, "b", ports));
    const service = await rest.call<string>("POST", "/services", { name: "b", network_name: "bench" });
    const used = cpu(daemon);
    await figures.time("attach", () => rest.call("POST", `/services/${service}/backend`, { sandbox_id: sandbox.id }));
    attaching.push(cpu(daemon) - used);
    peak = Math.max(peak, daemon.memory());
    await figures.time("detach", () => rest.call("DELETE", `/services/${service}/backend/${sandbox.id}`));
    await rest.call("DELETE", `/services/${service}`, {});
    await figures.time("delete", () => rest.call("DELETE", `/sandboxes/${sandbox.id}`));
  }
  const times = figures.names().map((name) => `${name} ${figures.at(name, 0.5).toFixed(1)}`);
  const memory = (peak - before).toFixed(1);
  console.log(
    `${title.padEnd(28)} ${times.join("  ")} ms (p50 of ${repeat}); attach used ${quantileOf(attaching, 0.5)} ms of CPU; memory +${memory} MiB`,
  );
};

const single = (n: number, from: number) => ({ Proto: 6, Port: 80, HostPort: from + n });

const costs = async (daemon: Daemon, rest: Rest): Promise<void> => {
  await publish(daemon, rest, "no port", [], 20);
  await publish(daemon, rest, "1 port", [single(0, 10_000)], 20);
  await publish(
    daemon,
    rest,
    "100 ports, one by one",
    Array.from({ length: 100 }, (_, n) => single(n, 10_000)),
    10,
  );
  const range = { Proto: 6, Port: 10_000, PortEnd: 19_999, HostPort: 10_000, HostPortEnd: 19_999 };
  await publish(daemon, rest, "10,000 ports, a range", [range], 3);
  const many = Array.from({ length: 10_000 }, (_, n) => single(n, 10_000));
  await publish(daemon, rest, "10,000 ports, one by one", many, 3);
};

/** The published port against a DNAT rule written by hand to the same server, taking turns. */
const compare = async (lan: Lan, rest: Rest, title: string, ports: readonly object[], port: number): Promise<void> => {
  const sandbox = await makeSandbox(rest, "server", ports);
  const service = await rest.call<string>("POST", "/services", { name: "server", network_name: "bench" });
  await rest.call("POST", `/services/${service}/backend`, { sandbox_id: sandbox.id });
  const server = spawn("nsenter", [`--net=${sandbox.key}`, process.execPath, "-e", tcpServer], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await new Promise<void>((resolve) => server.stdout.once("data", () => resolve()));
  const { addresses } = await rest.call<{ addresses: readonly string[] }>("GET", `/services/${service}`);
  const address = addresses[0]?.split("/")[0] ?? "";
  const rule = `table ip hand {
    chain prerouting {
      type nat hook prerouting priority dstnat;
      tcp dport 7 dnat to ${address}:80
    }
  }`;
  execFileSync("nft", ["-f", "-"], { input: rule });
  for (const kind of ["requests", "connections"] as const) {
    const [hand = [], ours = []] = lan.rates([7, port], kind);
    const [a, b] = [quantileOf(hand, 0.5), quantileOf(ours, 0.5)];
    const ratio = (
      100 *
      quantileOf(
        ours.map((each, n) => each / (hand[n] ?? 1)),
        0.5,
      )
    ).toFixed(1);
    console.log(
      `${title.padEnd(28)} ${kind}: ${b.toFixed(0)}/s, by hand ${a.toFixed(0)}/s: ${ratio}% (p50 of ${slices} pairs of ${slice} ms)`,
    );
  }
  execFileSync("nft", ["delete", "table", "ip", "hand"]);
  const gone = new Promise((resolve) => server.once("exit", resolve));
  server.kill("SIGKILL");
  await gone;
  await rest.call("DELETE", `/sandboxes/${sandbox.id}`);
};

const bench = async (): Promise<void> => {
  const lan = new Lan();
  await lan.connect();
  const daemon = await startDaemon();
  const rest = new Rest(daemon.socket);
  try {
    await rest.call("POST", "/networks", { name: "bench" });
    const limit = /open files\s+(\d+)/.exec(readFileSync(`/proc/${daemon.process.pid}/limits`, "utf8"))?.[1];
    console.log(`the daemon may open ${limit} files\n`);
    await costs(daemon, rest);
    console.log("");
    const many = Array.from({ length: 10_000 }, (_, n) => single(n, 10_000));
    await compare(lan, rest, "1 port published", [single(0, 10_000)], 10_000);
    await compare(lan, rest, "10,000 ports published", many, 15_000);
  } finally {
    rest.close();
    await daemon.stop();
    lan.close();
  }
};

if (enterHost(fileURLToPath(import.meta.url))) await bench();
