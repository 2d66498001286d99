import { afterAll, beforeAll, expect, it } from "vitest";
import { Rest } from "../../bench/rest.ts";
import type { NetworkResource, SandboxResource, ServiceResource } from "../../src/api/resources.ts";
import { DaemonProcess } from "../e2e/dnet.ts";
import { Outside } from "../e2e/outside.ts";
import { enterOwnHost, expectNothingLeft, run, shell } from "../own-host.ts";
import type { ProbedSandbox } from "./probe-kinds.ts";
import { Prober } from "./prober.ts";

/** `make restart` has 400. */
const count = Number(process.env.SANDBOXES ?? 100);
const networks = 4;
const host = "203.0.113.1";
/** Pairs of sandboxes that talk: the kernel's table of neighbours is one for the machine, 1,024 entries by default. */
const pairs = Math.min(50, Math.floor(count / 8));
/** Requests at a time. */
const lanes = 8;

const outside = new Outside();
beforeAll(async () => {
  enterOwnHost();
  await outside.connect();
  shell("echo 32768 60999 > /proc/sys/net/ipv4/ip_local_port_range");
});
afterAll(async () => {
  await outside.close();
  expectNothingLeft();
});

const inLanes = async <T>(all: readonly T[], work: (one: T) => Promise<void>): Promise<void> => {
  const left = [...all];
  const lane = async () => {
    for (let one = left.shift(); one !== undefined; one = left.shift()) await work(one);
  };
  await Promise.all(Array.from({ length: lanes }, lane));
};

const seconds = (from: number, to = performance.now()): string => `${((to - from) / 1000).toFixed(2)} s`;

/** Lists have no order of their own. */
const inOrder = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(inOrder).sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, inOrder(one)]));
};
const listed = async (rest: Rest, path: string): Promise<unknown> => inOrder(await rest.call("GET", path));

/** Everything that the kernel has of us on the host, and what the API says: a restart must change none of it. */
const stateOf = async (rest: Rest): Promise<unknown> => ({
  networks: await listed(rest, "/networks"),
  services: await listed(rest, "/services"),
  sandboxes: await listed(rest, "/sandboxes"),
  links: (JSON.parse(run("ip", "-j", "link")) as { ifindex: number; ifname: string; ifalias?: string }[]).map(
    ({ ifindex, ifname, ifalias }) => [ifindex, ifname, ifalias],
  ),
  routes: run("ip", "route"),
  // Elements in whatever order.
  rules: run("nft", "-s", "list", "ruleset")
    .split(/[\s,{}]+/)
    .sort(),
});

const addSandbox = async (rest: Rest, n: number): Promise<ProbedSandbox> => {
  const name = `c${n}`;
  const [tcpPort, udpPort] = [10_000 + n, 20_000 + n];
  const id = await rest.call<string>("POST", "/sandboxes", {
    container_id: name,
    port_mapping: [
      { Proto: 6, Port: 80, HostPort: tcpPort },
      { Proto: 17, Port: 53, HostPort: udpPort },
    ],
  });
  const service = await rest.call<string>("POST", "/services", { name, network_name: `n${n % networks}` });
  await rest.call("POST", `/services/${service}/backend`, { sandbox_id: id });
  const { key } = await rest.call<SandboxResource>("GET", `/sandboxes/${id}`);
  const { addresses = [] } = await rest.call<ServiceResource>("GET", `/services/${service}`);
  return { name, key, address: addresses[0]?.split("/")[0] ?? "", tcpPort, udpPort };
};

it(`${count} sandboxes with ${2 * count} published ports: no probe is lost across TERM and KILL of the daemon`, async () => {
  const began = performance.now();
  let daemon = await DaemonProcess.start();
  let rest = new Rest("/run/dnet.sock");
  for (let n = 0; n < networks; n++) await rest.call("POST", "/networks", { name: `n${n}` });
  const sandboxes: ProbedSandbox[] = [];
  await inLanes([...Array(count).keys()], async (n) => {
    sandboxes[n] = await addSandbox(rest, n);
  });
  const before = await stateOf(rest);
  rest.close();
  console.log(`${count} sandboxes with ${2 * count} ports in ${seconds(began)}`);

  const prober = new Prober(outside.pid);
  try {
    await prober.open({
      sandboxes,
      host,
      // Neighbours on the same network.
      pairs: Array.from({ length: pairs }, (_, n) => [8 * n, 8 * n + networks] as const),
    });
    const restart = async (signal: "SIGTERM" | "SIGKILL", probed: boolean) => {
      const stopping = performance.now();
      await daemon.stop(signal);
      const ended = performance.now();
      await prober.askNames(probed);
      const started = Date.now();
      const start = performance.now();
      daemon = await DaemonProcess.start();
      const ready = performance.now();
      const { asked, fresh, kept } = await prober.names();
      const after = (moments: readonly number[]) => `${((Math.max(...moments) - started) / 1000).toFixed(2)} s`;
      console.log(
        `${signal}${probed ? "" : ", without other probes"}: stopped in ${seconds(stopping, ended)}, ready ${seconds(start, ready)} after the start; ` +
          `names answered in all of ${asked} sandboxes ${after(kept)} after the start${probed ? `, from a new port ${after(fresh)}` : ""}`,
      );
      expect(daemon.log).not.toMatch(/level=(error|warning)/);
      rest = new Rest("/run/dnet.sock");
      expect(await stateOf(rest)).toEqual(before);
      rest.close();
    };
    await restart("SIGTERM", true);
    await restart("SIGKILL", true);
    const { kinds, losses, retransmissions, overflows } = await prober.report();
    for (const [kind, { sent, lost, longest }] of Object.entries(kinds))
      console.log(`${kind.padEnd(20)} ${sent} probes, ${lost} lost, longest ${longest.toFixed(0)} ms`);
    console.log(`TCP segments sent again: ${retransmissions}; datagrams that the prober read too late: ${overflows}`);
    expect(losses).toEqual([]);
    // A stall of the machine's own sends one again now and then; connections that were cut would send all of them.
    const sent = Object.values(kinds).reduce((sum, kind) => sum + kind.sent, 0);
    expect(retransmissions).toBeLessThan(sent / 100);
    // Probes that were never sent lose nothing.
    for (const { sent } of Object.values(kinds)) expect(sent).toBeGreaterThan(10);
    // What it takes where the probes do not take half of the machine.
    await restart("SIGTERM", false);
  } finally {
    await prober.close();
  }

  rest = new Rest("/run/dnet.sock");
  const ids = async (path: string) => (await rest.call<{ id: string }[]>("GET", path)).map(({ id }) => id);
  await inLanes(await ids("/sandboxes"), (id) => rest.call("DELETE", `/sandboxes/${id}`));
  await inLanes(await ids("/services"), (id) => rest.call("DELETE", `/services/${id}`, {}));
  for (const { id } of await rest.call<NetworkResource[]>("GET", "/networks"))
    await rest.call("DELETE", `/networks/${id}`);
  rest.close();
  expect(await daemon.stop()).toBe(0);
  console.log(`the whole in ${seconds(began)}`);
}, 600_000);
