// Throughput between two hosts: over an overlay network of the driver, and over the same VXLAN made by hand with ip, by turns.
//   node bench/overlay-throughput.ts [rounds] [megabytes]     as root, needs iperf3; works in namespaces of its own
import { spawn } from "node:child_process";
import { endpointOf, LanHost, overlayNetwork, wire } from "../test/overlay/lan.ts";
import { enterOwnHost, run, shell } from "../test/own-host.ts";

const [rounds, megabytes] = [Number(process.argv[2] ?? 60), Number(process.argv[3] ?? 400)];
enterOwnHost();
shell("ip link add lan type bridge mcast_snooping 0 && ip link set lan up");
const [one, two] = [new LanHost(1), new LanHost(2)];

const network = overlayNetwork("bench", 256, ["10.0.3.0/24"]);
const [a, b] = [endpointOf("a", "10.0.3.2/24"), endpointOf("b", "10.0.3.3/24")];
await wire(network, [
  [one, a],
  [two, b],
]);

/** What a person would type: bridge, VXLAN device and veth pair in a namespace of their own, entries for the other side. */
const byHand = (host: LanHost, n: number): { readonly space: string; readonly sandbox: string } => {
  const [space, sandbox, other] = [`hand${n}`, `box${n}`, 3 - n];
  host.run(
    "sh",
    "-ec",
    `
    ip netns add ${space}; ip netns add ${sandbox}
    ip link add vx0 netns ${space} mtu 1450 type vxlan id 4000 local 192.168.50.${n} dstport 4789 nolearning proxy
    ip -n ${space} link add br0 mtu 1450 type bridge
    ip -n ${space} link set br0 up
    ip -n ${space} link set vx0 master br0 up
    ip -n ${space} link add v0 mtu 1450 type veth peer name eth0 mtu 1450 address 02:42:0a:00:04:0${n} netns ${sandbox}
    ip -n ${space} link set v0 master br0 up
    ip -n ${sandbox} address add 10.0.4.${n}/24 dev eth0
    ip -n ${sandbox} link set eth0 up
    ip netns exec ${space} bridge fdb add 02:42:0a:00:04:0${other} dev vx0 dst 192.168.50.${other} self permanent
    ip -n ${space} neighbor add 10.0.4.${other} lladdr 02:42:0a:00:04:0${other} dev vx0`,
  );
  return { space, sandbox: `/run/netns/${sandbox}` };
};
const hands = [byHand(one, 1), byHand(two, 2)];

/** Gigabits a second from one namespace to another. */
const measure = async (from: string, to: string, address: string): Promise<number> => {
  const server = spawn("nsenter", [`--net=${to}`, "iperf3", "-s", "-1", "--forceflush", "-B", address], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise((resolve) => server.once("exit", resolve));
  await new Promise((resolve) => server.stdout.once("data", resolve));
  const output = run("nsenter", `--net=${from}`, "iperf3", "-J", "-c", address, "-n", `${megabytes}M`);
  await ended;
  const { end } = JSON.parse(output) as { end: { sum_received: { bits_per_second: number } } };
  return end.sum_received.bits_per_second / 1e9;
};

const ways = {
  overlay: () => measure(one.sandbox("a").namespace, two.sandbox("b").namespace, "10.0.3.3"),
  "by hand": () => measure(hands[0]?.sandbox ?? "", hands[1]?.sandbox ?? "", "10.0.4.2"),
};
const figures: Record<keyof typeof ways, number[]> = { overlay: [], "by hand": [] };
for (let round = 0; round < rounds; round++) {
  // Whoever is first gains nothing by it.
  const order = round % 2 === 0 ? (["overlay", "by hand"] as const) : (["by hand", "overlay"] as const);
  for (const way of order) figures[way].push(await ways[way]());
}
const median = (list: readonly number[]): number =>
  [...list].sort((x, y) => x - y)[Math.floor(list.length / 2)] ?? Number.NaN;
for (const [way, list] of Object.entries(figures)) console.log(`${way.padEnd(8)} ${median(list).toFixed(2)} Gbit/s`);
// What the machine does besides sways by a third within a minute: only neighbours in time are compared.
const pairs = figures.overlay.map((value, n) => value / (figures["by hand"][n] ?? Number.NaN));
console.log(`ratio    ${median(pairs).toFixed(3)} (median of ${rounds} pairs of ${megabytes} MB)`);
for (const { space, sandbox } of hands)
  shell(`ip netns delete ${space}; ip netns delete ${sandbox.replace(/.*\//, "")}`);
await one.close();
await two.close();
