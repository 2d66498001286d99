import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Libnetwork } from "../../src/controller/libnetwork.ts";
import type { CreateNetwork, NetworkInfo } from "../../src/controller/model.ts";
import { createLibnetwork } from "../../src/create-libnetwork.ts";
import { parsePrefix } from "../../src/net/prefix.ts";
import { eventually, run, shell } from "../own-host.ts";

/** A host with bridge networks and sandboxes, and a neighbour on its LAN: the ground of the firewall's tests. */

const sender = fileURLToPath(new URL("./send-frame.ts", import.meta.url));

/** Something with a network stack: `nsenter` takes the argument. */
export interface Place {
  readonly enter: string;
}

export const inPlace = (place: Place, ...command: readonly string[]) =>
  spawnSync("nsenter", [place.enter, ...command], { encoding: "utf8", timeout: 30_000 });

/** What a command prints in a place, while this process goes on serving names. */
export const outputOf = (place: Place, ...command: readonly string[]): Promise<string> =>
  new Promise((resolve, reject) => {
    const child = spawn("nsenter", [place.enter, ...command], { stdio: ["ignore", "pipe", "ignore"], timeout: 30_000 });
    let printed = "";
    child.stdout.on("data", (chunk: Buffer) => {
      printed += chunk.toString();
    });
    child.once("error", reject);
    child.once("close", () => resolve(printed));
  });

/** What a command prints in a place, which must succeed. */
export const at = (place: Place, ...command: readonly string[]): string => run("nsenter", place.enter, ...command);

const succeeds = (place: Place, ...command: readonly string[]): Promise<boolean> =>
  new Promise((resolve, reject) => {
    const child = spawn("nsenter", [place.enter, ...command], { stdio: "ignore", timeout: 30_000 });
    child.once("error", reject);
    child.once("exit", (status) => resolve(status === 0));
  });

/** Seconds until which what should pass must have passed: what is lost on a busy machine is sent again. */
const patient = 15;
/** Seconds after which what should not pass has not. */
const brief = 1.5;

/** True where a TCP connection comes about. @param expected whether it should: then it has longer */
export const connects = (from: Place, address: string, port = 80, expected = false): Promise<boolean> =>
  succeeds(from, "timeout", `${expected ? patient : brief}`, "bash", "-c", `exec 3<>/dev/tcp/${address}/${port}`);

/** `connects` where it should. */
export const reaches = (from: Place, address: string, port = 80): Promise<boolean> =>
  connects(from, address, port, true);

/** True at the first answer. @param expected as of `connects` */
export const pings = (from: Place, address: string, expected = false): Promise<boolean> =>
  succeeds(from, "ping", "-c1", `-w${expected ? patient : Math.ceil(brief)}`, "-n", address);

/** The test's own host. */
export const here: Place = { enter: "--net=/proc/self/ns/net" };

/** Puts frames on an interface of a place. */
export const inject = (from: Place, device: string, ...frames: readonly Buffer[]): void => {
  at(from, process.execPath, sender, device, ...frames.map((frame) => frame.toString("hex")));
};

export interface Sandbox extends Place {
  readonly name: string;
  readonly id: string;
  /** By network: addresses without their length. */
  readonly addresses: Readonly<Record<string, { readonly 4?: string; readonly 6?: string }>>;
  readonly mac: string;
}

/** A server of TCP and UDP in a place: answers with the client's address, keeps datagrams. */
export class Server {
  readonly #child: ChildProcess;
  #printed = "";

  constructor(place: Place, port = 80) {
    const program = `
      const net = require("node:net"), dgram = require("node:dgram");
      const answer = (socket) => { socket.on("error", () => undefined); socket.end(socket.remoteAddress + "\\n"); };
      const hosts = require("node:fs").existsSync("/proc/net/if_inet6") ? ["0.0.0.0", "::"] : ["0.0.0.0"];
      let waiting = hosts.length * 2;
      const ready = () => { if (--waiting === 0) process.stdout.write("ready\\n"); };
      for (const host of hosts) {
        net.createServer(answer).listen({ port: ${port}, host, ipv6Only: host === "::" }, ready);
        dgram.createSocket({ type: host === "::" ? "udp6" : "udp4", ipv6Only: host === "::" })
          .on("message", (text) => process.stdout.write(text + "\\n")).bind(${port}, host, ready);
      }`;
    this.#child = spawn("nsenter", [place.enter, process.execPath, "-e", program], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#child.stdout?.on("data", (chunk: Buffer) => {
      this.#printed += chunk.toString();
    });
  }

  async ready(): Promise<this> {
    await eventually("the server listens", () => this.#printed.startsWith("ready\n"), 20_000);
    return this;
  }

  get datagrams(): readonly string[] {
    return this.#printed.split("\n").slice(1, -1);
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGKILL");
    await ended;
  }
}

/** A machine on a LAN of the test's host: on the first, which leads to the world, the host has 203.0.113.1 and 2001:db8:113::1. */
export class Neighbour implements Place {
  readonly addresses: { readonly 4: string; readonly 6: string };
  /** The host's addresses on this LAN. */
  readonly host: { readonly 4: string; readonly 6: string };
  readonly #device: string;
  readonly #holder = spawn("unshare", ["--net", "sleep", "infinity"], { stdio: "ignore" });

  constructor(lan = 0) {
    this.#device = `wan${lan}`;
    this.host = { 4: `203.0.${113 + lan}.1`, 6: `2001:db8:${113 + lan}::1` };
    this.addresses = { 4: `203.0.${113 + lan}.2`, 6: `2001:db8:${113 + lan}::2` };
  }

  get enter(): string {
    return `--net=/proc/${this.#holder.pid}/ns/net`;
  }

  async connect(): Promise<void> {
    const own = run("readlink", "/proc/self/ns/net");
    await eventually("the neighbour has a stack", () => run("readlink", `/proc/${this.#holder.pid}/ns/net`) !== own);
    shell(`
      ip link add ${this.#device} type veth peer name eth0 netns ${this.#holder.pid}
      ip address add ${this.host[4]}/24 dev ${this.#device}
      ip address add ${this.host[6]}/64 dev ${this.#device} nodad
      ip link set ${this.#device} up
      nsenter ${this.enter} sh -c '
        ip address add ${this.addresses[4]}/24 dev eth0
        ip address add ${this.addresses[6]}/64 dev eth0 nodad
        ip link set eth0 up
        ip link set lo up'`);
    if (this.#device !== "wan0") return;
    shell(`ip route add default via ${this.addresses[4]}; ip -6 route add default via ${this.addresses[6]}`);
  }

  /** Sends what is for these subnets to the host, as nobody on a LAN should have to be trusted not to. */
  routeTo(network: NetworkInfo): void {
    for (const { pool } of network.subnets) {
      const six = pool.includes(":");
      at(this, "ip", six ? "-6" : "-4", "route", "replace", pool, "via", this.host[six ? 6 : 4]);
    }
  }

  /** The hardware address of the host on this LAN. */
  hostMac(): string {
    return (JSON.parse(run("ip", "-j", "link", "show", this.#device)) as { address: string }[])[0]?.address ?? "";
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#holder.once("exit", resolve));
    this.#holder.kill("SIGKILL");
    await ended;
    shell(
      `while ip link show ${this.#device} >/dev/null 2>&1; do ip link delete ${this.#device} 2>/dev/null || true; done`,
    );
  }
}

export class Lab {
  readonly libnetwork: Libnetwork;
  readonly log: string[];
  readonly #networks: string[] = [];
  readonly #sandboxes: string[] = [];
  readonly #servers: Server[] = [];
  #subnets = 0;

  private constructor(libnetwork: Libnetwork, log: string[]) {
    this.libnetwork = libnetwork;
    this.log = log;
  }

  static async open(options: { readonly firewall?: "nftables" | "none" } = {}): Promise<Lab> {
    const log: string[] = [];
    const write = (level: string, message: string) => {
      if (level !== "debug") log.push(`${level} ${message}`);
    };
    return new Lab(await createLibnetwork({ ...options, defaultNetwork: "", log: write }), log);
  }

  /** A network of both families. */
  async network(name: string, request: Omit<CreateNetwork, "name"> = {}): Promise<NetworkInfo> {
    const n = ++this.#subnets;
    const subnets = [{ pool: parsePrefix(`10.77.${n}.0/24`) }, { pool: parsePrefix(`fd00:77:${n}::/64`) }];
    const network = await this.libnetwork.createNetwork({ name, subnets, ...request });
    this.#networks.push(network.id);
    return network;
  }

  /** A sandbox with an interface in each of the networks, in their order. */
  async sandbox(name: string, ...networks: readonly NetworkInfo[]): Promise<Sandbox> {
    const { id, key } = await this.libnetwork.createSandbox({ containerId: name });
    this.#sandboxes.push(id);
    const addresses: Record<string, { 4?: string; 6?: string }> = {};
    let mac = "";
    for (const network of networks) {
      const endpoint = await this.libnetwork.createEndpoint(network.id, { name });
      await this.libnetwork.attach(endpoint.id, id);
      const plain = endpoint.addresses.map((address) => address.split("/")[0] ?? "");
      const [four, six] = [plain.find((text) => !text.includes(":")), plain.find((text) => text.includes(":"))];
      addresses[network.name] = { ...(four !== undefined && { 4: four }), ...(six !== undefined && { 6: six }) };
      mac ||= endpoint.mac ?? "";
    }
    return { name, id, enter: `--net=${key}`, addresses, mac };
  }

  async serve(place: Place, port = 80): Promise<Server> {
    const server = new Server(place, port);
    this.#servers.push(server);
    return server.ready();
  }

  /** Takes a sandbox and a network away before the rest. */
  async remove(sandbox: Sandbox, network: NetworkInfo): Promise<void> {
    this.#sandboxes.splice(this.#sandboxes.indexOf(sandbox.id), 1);
    await this.libnetwork.deleteSandbox(sandbox.id);
    this.#networks.splice(this.#networks.indexOf(network.id), 1);
    await this.libnetwork.deleteNetwork(network.id);
  }

  /** Takes everything away, through the library. */
  async clear(): Promise<void> {
    for (const server of this.#servers.splice(0)) await server.close();
    for (const id of this.#sandboxes.splice(0)) await this.libnetwork.deleteSandbox(id);
    for (const id of this.#networks.splice(0)) await this.libnetwork.deleteNetwork(id);
    this.log.length = 0;
  }

  async close(): Promise<void> {
    await this.clear();
    await this.libnetwork.close();
  }
}
