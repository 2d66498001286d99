import { mkdirSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { badRequest, notFound, shown } from "../errors.ts";
import { daemonPort, hostAddress, hostName, lan, outside } from "./addresses.ts";
import { writeInitScripts } from "./init-scripts.ts";
import { LabNetwork } from "./lab-network.ts";
import { daemonConfig, type LabPlan, storeEndpoint } from "./lab-options.ts";
import { isServer, type LabHostState, type LabState } from "./lab-state.ts";
import type { Place } from "./place.ts";
import { projectRoot } from "./programs.ts";
import { Relay } from "./relay.ts";
import { Service } from "./service.ts";
import { storeServer } from "./store-server.ts";

/** Hosts that are set up at once; more only wait for the same processors. */
const lanes = 4;

interface LabHost {
  /** From 1. */
  readonly n: number;
  place: Place;
  daemon: Service;
}

/** True where somebody listens on a unix socket. */
const listens = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const probe = connect(path);
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    probe.once("error", () => resolve(false));
  });

/** A running lab: its network, its store, its hosts. One a process; everything in it ends with that process. */
export class Supervisor {
  readonly #plan: LabPlan;
  readonly #directory: string;
  readonly #userNamespace = process.getuid?.() !== 0;
  readonly #network: LabNetwork;
  readonly #hosts: LabHost[] = [];
  readonly #relays: Relay[] = [];
  readonly #outside: Place;
  #store: { readonly place: Place; readonly server: Service } | undefined;

  private constructor(plan: LabPlan, directory: string, network: LabNetwork, outsidePlace: Place) {
    this.#plan = plan;
    this.#directory = directory;
    this.#network = network;
    this.#outside = outsidePlace;
  }

  /**
   * @param directory exists and is empty but for the control socket
   * @param signal ends what there is at once; rejects with its reason when nothing is left that could still make something
   */
  static async start(
    plan: LabPlan,
    directory: string,
    progress: (text: string) => void,
    signal: AbortSignal,
  ): Promise<Supervisor> {
    mkdirSync(join(directory, "private"));
    writeInitScripts(directory);
    const network = await LabNetwork.start(directory, process.getuid?.() !== 0);
    // Whatever step is under way ends with the processes inside.
    const abort = () => void network.end().catch(() => undefined);
    signal.addEventListener("abort", abort);
    let supervisor: Supervisor | undefined;
    try {
      signal.throwIfAborted();
      makePlaceDirectory(plan, directory, "outside");
      supervisor = new Supervisor(plan, directory, network, await network.addOutside());
      await supervisor.#start(progress, signal);
      return supervisor;
    } catch (error) {
      await (supervisor ?? network).end();
      throw signal.aborted ? signal.reason : error;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  async #start(progress: (text: string) => void, signal: AbortSignal): Promise<void> {
    const { store, hosts, port } = this.#plan;
    // First of all: a port that is taken is the likeliest refusal.
    for (let n = 1; n <= hosts; n++) {
      this.#relays.push(await Relay.listen(port + n - 1, this.#socketOf(hostName(n))));
    }
    progress(`LAN ${lan.prefix}, gateway ${lan.gateway}, outside ${outside.address}`);
    if (isServer(store)) {
      const directory = makePlaceDirectory(this.#plan, this.#directory, "store");
      const place = await this.#network.addMachine("store", lan.store);
      const server = storeServer(store, place, directory);
      await server.start();
      this.#store = { place, server };
      progress(`store ${store} on ${storeEndpoint(store)} ready`);
    }
    const waiting = Array.from({ length: hosts }, (_, index) => index + 1).values();
    const failures: unknown[] = [];
    const lane = async (): Promise<void> => {
      try {
        for (const n of waiting) {
          signal.throwIfAborted();
          if (failures.length > 0) return;
          await this.#addHost(n, progress);
        }
      } catch (error) {
        failures.push(error);
        // The other lanes' steps end with it.
        await this.#network.end();
      }
    };
    await Promise.all(Array.from({ length: lanes }, lane));
    if (failures.length > 0) throw failures[0];
    this.#hosts.sort((a, b) => a.n - b.n);
  }

  async #addHost(n: number, progress: (text: string) => void): Promise<void> {
    const name = hostName(n);
    const directory = makePlaceDirectory(this.#plan, this.#directory, name);
    writeFileSync(join(directory, "dnet.toml"), daemonConfig(this.#plan, n));
    const place = await this.#network.addMachine(name, hostAddress(n));
    const host = { n, place, daemon: this.#daemonOf(name, place) };
    this.#hosts.push(host);
    await host.daemon.start();
    progress(`host ${name} on ${hostAddress(n)} ready: dnet -H tcp://127.0.0.1:${this.#plan.port + n - 1}`);
  }

  get state(): LabState {
    const { name, port, store: kind } = this.#plan;
    const running = (service: Service) => (service.running ? "running" : "stopped");
    const place = (placeName: string, address: string, { pid }: Place) => ({ name: placeName, address, pid });
    return {
      name,
      directory: this.#directory,
      supervisor: process.pid,
      userNamespace: this.#userNamespace,
      lan: place("lan", lan.gateway, this.#network.lan),
      outside: place("outside", outside.address, this.#outside),
      ...(this.#store &&
        isServer(kind) && {
          store: {
            ...place("store", lan.store, this.#store.place),
            kind,
            endpoint: storeEndpoint(kind),
            server: running(this.#store.server),
          },
        }),
      hosts: this.#hosts.map(
        (host): LabHostState => ({
          ...place(hostName(host.n), hostAddress(host.n), host.place),
          api: `tcp://127.0.0.1:${port + host.n - 1}`,
          daemon: running(host.daemon),
        }),
      ),
      partitions: this.#network.partitions,
    };
  }

  /** Resolves when the lab's first process has ended, whatever ended it. */
  get ended(): Promise<void> {
    return this.#network.lan.ended;
  }

  async stopDaemon(name: string, signal: "TERM" | "KILL"): Promise<void> {
    await this.#host(name).daemon.stop(signal);
  }

  async startDaemon(name: string): Promise<void> {
    await this.#host(name).daemon.start();
  }

  /**
   * Power off and on: processes, namespaces and /run are gone, the disk stays.
   * @param fresh a new machine in its place: the disk is empty, too
   */
  async reboot(name: string, fresh: boolean): Promise<void> {
    const host = this.#host(name);
    host.daemon.release();
    await host.place.end();
    if (fresh) {
      const disk = join(this.#directory, "private", name, "disk");
      await this.#network.lan.script('rm -rf "$1"', [disk], ["mount"]);
    }
    host.place = await this.#network.addMachine(name, hostAddress(host.n));
    host.daemon = this.#daemonOf(name, host.place);
    await host.daemon.start();
  }

  async stopStore(): Promise<void> {
    await this.#storeServer.stop("TERM");
  }

  async startStore(): Promise<void> {
    await this.#storeServer.start();
  }

  async partition(from: readonly string[], to: readonly string[]): Promise<void> {
    const machines = [...this.#hosts.map(({ n }) => hostName(n)), ...(this.#store ? ["store"] : [])];
    for (const name of [...from, ...to]) {
      if (!machines.includes(name)) throw unknownPlace(name, machines);
      if (from.includes(name) && to.includes(name)) {
        throw badRequest("lab-partition", `${name} cannot be parted from itself`);
      }
    }
    await this.#network.partition(from.flatMap((a) => to.map((b) => [a, b] as const)));
  }

  async heal(): Promise<void> {
    await this.#network.heal();
  }

  async end(): Promise<void> {
    for (const relay of this.#relays) relay.close();
    for (const { daemon } of this.#hosts) daemon.release();
    this.#store?.server.release();
    await this.#network.end();
  }

  #host(name: string): LabHost {
    const host = this.#hosts.find(({ n }) => hostName(n) === name);
    if (host) return host;
    const names = this.#hosts.map(({ n }) => hostName(n));
    throw unknownPlace(name, names);
  }

  get #storeServer(): Service {
    if (this.#store) return this.#store.server;
    throw badRequest("lab-options", `this lab has no store of its own (${this.#plan.store})`);
  }

  #daemonOf(name: string, place: Place): Service {
    const hosts = ["unix:///var/run/dnet.sock", "unix:///var/run/lab/dnet.sock", `tcp://0.0.0.0:${daemonPort}`];
    const executable = join(projectRoot(), "bin", "dnet");
    return new Service({
      name: "dnet",
      place,
      directory: join(this.#directory, name),
      command: [executable, "-d", "-D", "-c", "/run/lab/dnet.toml", "-H", hosts.join(",")],
      ready: () => listens(this.#socketOf(name)),
    });
  }

  #socketOf(name: string): string {
    return join(this.#directory, name, "dnet.sock");
  }
}

/** The directory of a place that its caller shares with it. */
const makePlaceDirectory = ({ hosts, store }: LabPlan, lab: string, name: string): string => {
  const directory = join(lab, name);
  mkdirSync(directory);
  const names = [
    ["127.0.0.1", "localhost"],
    ["::1", "localhost"],
    ...(isServer(store) ? [[lan.store, "store"]] : []),
    ...Array.from({ length: hosts }, (_, index) => [hostAddress(index + 1), hostName(index + 1)]),
  ];
  writeFileSync(join(directory, "hosts"), names.map((line) => `${line.join("\t")}\n`).join(""));
  // Nobody answers there unless a test starts a server; the refusal comes at once, where a far address would time out.
  writeFileSync(join(directory, "resolv.conf"), `nameserver ${outside.address}\n`);
  return directory;
};

const unknownPlace = (name: string, known: readonly string[]) =>
  notFound("no-lab-host", `the lab has no ${shown(name)}`, { hint: `it has ${known.join(", ")}` });
