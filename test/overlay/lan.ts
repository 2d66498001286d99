import { type ChildProcess, spawn } from "node:child_process";
import koffi from "koffi";
import { afterEach, beforeAll, beforeEach } from "vitest";
import type { DriverEndpoint, DriverHost, DriverNetwork, DriverPeer, DriverSandbox } from "../../src/drivers/driver.ts";
import { overlayDriver } from "../../src/drivers/overlay/overlay-driver.ts";
import { type Plan, plan } from "../../src/linux/plan.ts";
import { WorkerKernel } from "../../src/linux/worker-kernel.ts";
import { type Ip, parseIp } from "../../src/net/ip.ts";
import { macFromIp } from "../../src/net/mac.ts";
import { addressOf, parseInterfaceAddress, parsePrefix } from "../../src/net/prefix.ts";
import { enterOwnHost, expectNothingLeft, run, shell } from "../own-host.ts";

/** Hosts on one LAN, each a network namespace with a kernel worker of its own; and what a controller would tell the driver. */

const libc = koffi.load(null);
const open = libc.func("int open(const char *path, int flags)");
const setns = libc.func("int setns(int fd, int type)");
const closeFd = libc.func("int close(int fd)");

/** Runs work with this thread in a namespace: threads and processes that it starts are born there. */
const bornIn = <T>(path: string, work: () => T): T => {
  const home = open("/proc/thread-self/ns/net", 0);
  const there = open(path, 0);
  if (home < 0 || there < 0 || setns(there, 0) !== 0) throw new Error(`cannot enter ${path}: errno ${koffi.errno()}`);
  try {
    return work();
  } finally {
    if (setns(home, 0) !== 0) process.exit(70);
    closeFd(home);
    closeFd(there);
  }
};

export const driver = overlayDriver();
const present = <T>(part: T | undefined): T => {
  if (part === undefined) throw new Error("the overlay driver lacks a part of its contract");
  return part;
};
const presence = present(driver.presence);
const peers = present(driver.peers);

export class LanHost {
  readonly name: string;
  readonly path: string;
  host: DriverHost;
  kernel: WorkerKernel;

  constructor(n: number, more: Partial<DriverHost> = {}) {
    this.name = `h${n}`;
    this.path = `/run/netns/${this.name}`;
    this.host = { vtep: parseIp(`192.168.50.${n}`), namespaceDir: `/run/docker/${this.name}`, ...more };
    shell(`
      ip netns add ${this.name}
      ip link add ${this.name} type veth peer name eth0 netns ${this.name}
      ip link set ${this.name} master lan up
      ip -n ${this.name} address add 192.168.50.${n}/24 dev eth0
      ip -n ${this.name} address add fd50::${n}/64 dev eth0 nodad
      ip -n ${this.name} link set lo up
      ip -n ${this.name} link set eth0 up`);
    this.kernel = this.#start();
  }

  #start(): WorkerKernel {
    const kernel = new WorkerKernel();
    // The first request starts the worker.
    bornIn(this.path, () => void kernel.observe("host"));
    return kernel;
  }

  /** The daemon's end and its next start: the kernel's objects stay, all knowledge of them is gone. */
  async restart(): Promise<void> {
    await this.kernel.close();
    this.kernel = this.#start();
  }

  run(program: string, ...args: readonly string[]): string {
    return run("nsenter", `--net=${this.path}`, program, ...args);
  }

  /** In the network's namespace on this host. */
  inside(network: DriverNetwork, program: string, ...args: readonly string[]): string {
    return run("nsenter", `--net=${this.namespace(network)}`, program, ...args);
  }

  namespace(network: DriverNetwork): string {
    return `${this.host.namespaceDir}/1-${network.id.slice(0, 10)}`;
  }

  async arrive(network: DriverNetwork, others: readonly LanHost[]): Promise<void> {
    await this.kernel.apply(presence.create(network, this.host));
    await this.tellHosts(network, others);
  }

  async tellHosts(network: DriverNetwork, others: readonly LanHost[], gone: readonly Ip[] = []): Promise<void> {
    const vteps = others.map(({ host }) => host.vtep);
    await this.kernel.apply(peers.hosts(network, this.host, vteps, gone));
  }

  async leave(network: DriverNetwork): Promise<void> {
    await this.kernel.teardown(presence.remove(network, this.host));
  }

  sandbox(name: string, interfaceName = "eth0"): DriverSandbox {
    return { id: name, namespace: `${this.host.namespaceDir}/${name}`, interfaceName };
  }

  /** What the controller does at an attach. */
  attachPlan(network: DriverNetwork, endpoint: DriverEndpoint, sandbox: DriverSandbox): Plan {
    const { namespace } = sandbox;
    return plan(
      { op: "namespace.add", path: namespace },
      { op: "sysctl.set", namespace, key: "net/ipv6/conf/default/disable_ipv6", value: "1" },
      driver.attach(network, endpoint, sandbox, this.host).attach,
    );
  }

  /** A sandbox's attachment, its namespace included. */
  async attach(network: DriverNetwork, endpoint: DriverEndpoint): Promise<void> {
    await this.kernel.apply(this.attachPlan(network, endpoint, this.sandbox(endpoint.name)));
  }

  async detach(network: DriverNetwork, endpoint: DriverEndpoint): Promise<void> {
    const sandbox = this.sandbox(endpoint.name);
    await this.kernel.teardown(driver.attach(network, endpoint, sandbox, this.host).detach);
    await this.kernel.teardown(plan({ op: "namespace.delete", path: sandbox.namespace }));
  }

  async know(network: DriverNetwork, ...known: readonly DriverPeer[]): Promise<void> {
    await this.kernel.apply(plan(...known.map((peer) => peers.add(network, this.host, peer))));
  }

  async forget(network: DriverNetwork, ...known: readonly DriverPeer[]): Promise<void> {
    await this.kernel.apply(plan(...known.map((peer) => peers.remove(network, this.host, peer))));
  }

  /** A program that goes on running in a sandbox, or on the host itself. */
  start(endpoint: DriverEndpoint | undefined, program: string, ...args: readonly string[]): ChildProcess {
    const path = endpoint === undefined ? this.path : this.sandbox(endpoint.name).namespace;
    return spawn("nsenter", [`--net=${path}`, program, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  }

  in(endpoint: DriverEndpoint, program: string, ...args: readonly string[]): string {
    return run("nsenter", `--net=${this.sandbox(endpoint.name).namespace}`, program, ...args);
  }

  /** @returns whether an answer came */
  ping(endpoint: DriverEndpoint, to: string, ...more: readonly string[]): boolean {
    try {
      this.in(endpoint, "ping", "-n", "-c", "1", "-w", "10", ...more, to);
      return true;
    } catch {
      return false;
    }
  }

  async close(): Promise<void> {
    await this.kernel.close();
    shell(`
      for path in ${this.host.namespaceDir}/*; do umount -l "$path" && rm "$path"; done 2>/dev/null || true
      rmdir ${this.host.namespaceDir} 2>/dev/null || true
      ip netns delete ${this.name}
      ip link delete ${this.name} 2>/dev/null || true`);
  }
}

const idOf = (name: string): string => Buffer.from(name.padEnd(32, "-")).toString("hex").slice(0, 64);

/** An overlay network with VNIs from `vni` on. */
export const overlayNetwork = (
  name: string,
  vni: number,
  pools: readonly string[],
  more: Partial<DriverNetwork> = {},
): DriverNetwork => {
  const id = idOf(name);
  const subnets = pools.map((pool, n) => {
    const prefix = parsePrefix(pool);
    const first = pool.includes(":") ? pool.replace(/::\//, "::1/") : pool.replace(/0\//, "1/");
    return { pool: prefix, gateway: parseInterfaceAddress(first), vni: vni + n };
  });
  return {
    id,
    name,
    mark: `dnet:0badcafe:${id}`,
    internal: false,
    ipv6: pools.some((pool) => pool.includes(":")),
    options: {},
    subnets,
    ...more,
  };
};

export const endpointOf = (name: string, ...addresses: readonly string[]): DriverEndpoint => {
  const parsed = addresses.map((address) => parseInterfaceAddress(address));
  const [first] = parsed;
  if (first === undefined) throw new Error("an endpoint without addresses");
  const id = idOf(name);
  return { id, name, mark: `dnet:0badcafe:${id}`, addresses: parsed, mac: macFromIp(addressOf(first)), options: {} };
};

/** The endpoint as other hosts see it. */
export const peerOf = (endpoint: DriverEndpoint, where: LanHost): DriverPeer => {
  if (endpoint.mac === undefined) throw new Error("an endpoint without a MAC");
  return { addresses: endpoint.addresses, mac: endpoint.mac, vtep: where.host.vtep };
};

/** A LAN with hosts 1 to `count` for each test of a file; nothing is left of it afterwards. */
export const useLan = (count: number, more: Partial<DriverHost> = {}): readonly LanHost[] => {
  const hosts: LanHost[] = [];
  beforeAll(enterOwnHost);
  beforeEach(() => {
    shell("ip link add lan type bridge mcast_snooping 0 && ip link set lan up");
    for (let n = 1; n <= count; n++) hosts.push(new LanHost(n, more));
  });
  afterEach(async () => {
    for (const host of hosts.splice(0)) await host.close();
    run("ip", "link", "delete", "lan");
    expectNothingLeft();
  });
  return hosts;
};

/** Brings endpoints up on their hosts and tells every host of all others. */
export const wire = async (
  network: DriverNetwork,
  placed: readonly (readonly [LanHost, DriverEndpoint])[],
): Promise<void> => {
  const hosts = [...new Set(placed.map(([host]) => host))];
  for (const host of hosts) {
    await host.arrive(
      network,
      hosts.filter((other) => other !== host),
    );
  }
  for (const [host, endpoint] of placed) await host.attach(network, endpoint);
  for (const host of hosts) {
    await host.know(network, ...placed.map(([where, endpoint]) => peerOf(endpoint, where)));
  }
};

/** The host at a place of the list. */
export const hostOf = (hosts: readonly LanHost[], n: number): LanHost => {
  const host = hosts[n - 1];
  if (host === undefined) throw new Error(`no host ${n}`);
  return host;
};
