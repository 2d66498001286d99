// How many queries per second one resolver answers from its table, and how fast. Uses dnsperf where it is installed.
import { fork, spawnSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import dns from "dns-packet";
import { NameTable } from "../src/dns/name-table.ts";
import { Resolver } from "../src/dns/resolver.ts";
import { parseIp } from "../src/net/ip.ts";
import { parsePrefix } from "../src/net/prefix.ts";

const names = 300;
const table = new NameTable();
const lines: string[] = [];
for (let i = 0; i < names; i++) {
  const address = parseIp(`172.19.${i >> 8}.${i & 255}`);
  table.set("n1", `e${i}`, { names: [`name${i}`, `alias${i}`], addresses: [address] });
  lines.push(`name${i} A`, `alias${i}.front A`);
}
const view = table.view({
  networks: [{ id: "n1", name: "front", subnets: [parsePrefix("172.19.0.0/16")] }],
  aliases: [],
  addresses: [],
});
const local = { address: "127.0.0.1", port: 0 };

/** Keeps `depth` queries under way for `seconds` and measures each: dnsperf knows no percentiles. */
const ownLoop = async (port: number, depth: number, seconds: number): Promise<void> => {
  const queries = lines.map((line) => {
    const [name = "", type] = line.split(" ");
    return dns.encode({ type: "query", id: 0, flags: 256, questions: [{ type: type as "A", name }] });
  });
  const client = createSocket("udp4");
  const sent = new Float64Array(65_536);
  const took: number[] = [];
  let id = 0;
  const ask = () => {
    const query = Buffer.from(queries[id % queries.length]!);
    query.writeUInt16BE(id, 0);
    sent[id] = performance.now();
    id = (id + 1) & 65_535;
    client.send(query);
  };
  client.on("message", (reply) => {
    took.push(performance.now() - sent[reply.readUInt16BE(0)]!);
    ask();
  });
  await new Promise<void>((resolve) => client.connect(port, "127.0.0.1", () => resolve()));
  for (let i = 0; i < depth; i++) ask();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  client.removeAllListeners("message").close();
  took.sort((a, b) => a - b);
  const at = (share: number) => took[Math.floor(took.length * share)]?.toFixed(3);
  console.log(
    `own loop, ${depth} under way: ${Math.round(took.length / seconds)} q/s, p50 ${at(0.5)} ms, p99 ${at(0.99)} ms`,
  );
};

if (process.argv[2] === "serve") {
  const resolver = await Resolver.open({ udp: local, tcp: local, view, upstreams: () => undefined });
  process.send?.(resolver.udpPort);
} else {
  const server = fork(import.meta.filename, ["serve"]);
  const [port] = (await once(server, "message")) as [number];
  const dir = mkdtempSync(join(tmpdir(), "dns-bench-"));
  writeFileSync(join(dir, "queries"), `${lines.join("\n")}\n`);
  try {
    for (const rate of [[], ["-Q", "20000"]]) {
      const args = ["-s", "127.0.0.1", "-p", `${port}`, "-d", join(dir, "queries"), "-c", "10", "-q", "100", "-l", "5"];
      const run = spawnSync("dnsperf", [...args, ...rate], { encoding: "utf8" });
      if (run.error) break;
      const figures = run.stdout.match(/(?:Queries (?:completed|lost|per second)|Response codes|Average Latency).*/g);
      console.log([["dnsperf", ...rate].join(" "), ...(figures ?? [run.stdout])].join("\n  "));
    }
    for (const depth of [10, 100]) await ownLoop(port, depth, 3);
  } finally {
    rmSync(dir, { recursive: true });
    server.kill();
  }
}
