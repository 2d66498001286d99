// Programs the endpoints of an overlay network that are on other hosts ahead of traffic, and takes them away again.
//   node bench/overlay-peers.ts [number of endpoints] [--dual]     as root; works in namespaces of its own
import { overlayDriver } from "../src/drivers/overlay/overlay-driver.ts";
import { plan } from "../src/linux/plan.ts";
import { WorkerKernel } from "../src/linux/worker-kernel.ts";
import { ipFromBigInt, parseIp } from "../src/net/ip.ts";
import { macFromIp } from "../src/net/mac.ts";
import { parseInterfaceAddress, parsePrefix, withLength } from "../src/net/prefix.ts";
import { enterOwnHost, inside } from "../test/own-host.ts";

const count = Number(process.argv.find((word) => /^\d+$/.test(word)) ?? 10_000);
const dual = process.argv.includes("--dual");
enterOwnHost();
const { presence, peers } = overlayDriver();
if (!presence || !peers) throw new Error("the overlay driver has no peers");

const id = "b".repeat(64);
const host = { vtep: parseIp("192.168.50.1"), namespaceDir: "/run/docker/netns" };
const four = { pool: parsePrefix("10.1.0.0/16"), gateway: parseInterfaceAddress("10.1.0.1/16"), vni: 256 };
const six = { pool: parsePrefix("fd01::/64"), gateway: parseInterfaceAddress("fd01::1/64"), vni: 257 };
const network = {
  id,
  name: "bench",
  mark: `dnet:0badcafe:${id}`,
  internal: false,
  ipv6: dual,
  options: {},
  subnets: dual ? [four, six] : [four],
};
const all = Array.from({ length: count }, (_, n) => {
  const ip = ipFromBigInt(BigInt(0x0a010002 + n), 4);
  return {
    addresses: [withLength(ip, 16), ...(dual ? [withLength(parseIp(`fd01::${(n + 2).toString(16)}`), 64)] : [])],
    mac: macFromIp(ip),
    vtep: ipFromBigInt(BigInt(0xc0a83202 + (n % 100)), 4),
  };
});

const kernel = new WorkerKernel();
const timed = async <T>(what: string, work: () => T | Promise<T>): Promise<T> => {
  const [start, busy] = [performance.now(), process.cpuUsage()];
  const result = await work();
  const { user, system } = process.cpuUsage(busy);
  const rss = Math.round(process.memoryUsage.rss() / 1024 / 1024);
  const ms = (value: number): string => value.toFixed(0).padStart(6);
  console.log(
    `${what.padEnd(40)} ${ms(performance.now() - start)} ms, CPU ${ms((user + system) / 1000)} ms   RSS ${rss} MiB`,
  );
  return result;
};

await timed("presence", () => kernel.apply(presence.create(network, host)));
const add = await timed("plan computed", () => plan(...all.map((peer) => peers.add(network, host, peer))));
await timed(`${count} endpoints on 100 hosts applied`, () => kernel.apply(add));
await timed("the same again", () => kernel.apply(add));
const path = `${host.namespaceDir}/1-${id.slice(0, 10)}`;
const lines = (command: string): string => inside(path, "sh", "-c", `${command} | wc -l`).trim();
console.log(`in the kernel: ${lines("bridge fdb | grep dst")} forwarding entries, ${lines("ip neighbor")} neighbours`);
await timed("taken away", () => kernel.apply(plan(...all.map((peer) => peers.remove(network, host, peer)))));
await kernel.teardown(presence.remove(network, host));
await kernel.close();
