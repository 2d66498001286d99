// A controller joins a network that has many endpoints on other hosts; prints what that cost as JSON. Started by overlay.ts.
//   node bench/overlay-controller.ts ENDPOINTS PEERS-AHEAD      as root; works in namespaces of its own
import { createLibnetwork } from "../src/create-libnetwork.ts";
import { ipFromBigInt, parseIp } from "../src/net/ip.ts";
import { macFromIp } from "../src/net/mac.ts";
import { parsePrefix, withLength } from "../src/net/prefix.ts";
import { MemoryStore } from "../src/store/memory/memory-store.ts";
import type { Json } from "../src/store/store.ts";
import { enterOwnHost, inside } from "../test/own-host.ts";

const [count, peersAhead] = [Number(process.argv[2] ?? 10_000), Number(process.argv[3] ?? 20_000)];
enterOwnHost();
const memory = (): number => {
  globalThis.gc?.();
  return process.memoryUsage.rss() / 1024 / 1024;
};
const id = "b".repeat(64);
const hex = (n: number): string => n.toString(16).padStart(64, "0");
const created = new Date().toISOString();
const endpoint = (n: number): Json => {
  const ip = ipFromBigInt(BigInt(0x0a010002 + n), 4);
  const sandbox = {
    id: hex(n + 1_000_000),
    node: (n % 100).toString(16).padStart(8, "0"),
    vtep: ipFromBigInt(BigInt(0xc0a83202 + (n % 100)), 4),
    container: `container_${n}`,
    interface: "eth0",
    order: 0,
    aliases: [],
  };
  const addresses = [withLength(ip, 16)];
  const name = `service_${n}`;
  return {
    version: 1,
    id: hex(n),
    network: id,
    name,
    aliases: [],
    addresses,
    mac: macFromIp(ip),
    options: {},
    created,
    sandbox,
  };
};

const globalStore = new MemoryStore();
const libnetwork = await createLibnetwork({
  globalStore,
  defaultNetwork: "",
  overlay: { peersAhead },
  place: () => ({ vtep: parseIp("192.168.50.1") }),
  log: (level, message) => level === "error" && console.error(message),
});
await libnetwork.createNetwork({
  name: "bench",
  driver: "overlay",
  id,
  subnets: [{ pool: parsePrefix("10.1.0.0/16") }],
});
// One attachment before, so that everything is loaded that the measured one needs.
const warm = await libnetwork.createNetwork({ name: "warm", driver: "overlay" });
const sandbox = await libnetwork.createSandbox({ containerId: "bench" });
const first = await libnetwork.createEndpoint(warm.id, { name: "bench" });
await libnetwork.attach(first.id, sandbox.id);
const own = await libnetwork.createEndpoint(id, { name: "own", addresses: [parseIp("10.1.255.254")] });
const before = memory();

const batch = 500;
let text = 0;
for (let from = 0; from < count; from += batch) {
  const puts = Array.from({ length: Math.min(batch, count - from) }, (_, n) => {
    const value = endpoint(from + n);
    text += JSON.stringify(value).length;
    return { key: `global/endpoints/${id}/${hex(from + n)}`, value };
  });
  await globalStore.transact({ puts });
}
const began = performance.now();
await libnetwork.sync();
// Names are put in order after the change was seen.
while (libnetwork.endpoints(id).length <= count) await new Promise((resolve) => setTimeout(resolve, 10));
const known = performance.now() - began;
await libnetwork.sync();

const [start, busy] = [performance.now(), process.cpuUsage()];
await libnetwork.attach(own.id, sandbox.id);
const attach = performance.now() - start;
const { user, system } = process.cpuUsage(busy);
const cpu = (user + system) / 1000;
const path = `/var/run/docker/netns/1-${id.slice(0, 10)}`;
const lines = (command: string): number => Number(inside(path, "sh", "-c", `${command} | wc -l`));
const entries = lines("bridge fdb show dev vxlan1 | grep dst");
const neighbors = lines("ip neighbor show nud permanent");
// The worker gives back what it needed for the work within 2 s.
await new Promise((resolve) => setTimeout(resolve, 5_000));
const after = memory();
console.log(
  JSON.stringify({ count, attach, cpu, known, entries, neighbors, memory: after - before, store: text / 1024 / 1024 }),
);
await libnetwork.deleteSandbox(sandbox.id);
await libnetwork.close();
process.exit(0);
