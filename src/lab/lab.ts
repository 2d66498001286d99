import { spawn } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { badRequest, internal, notFound, shown } from "../errors.ts";
import { hostName } from "./addresses.ts";
import { readLog } from "./bounded-log.ts";
import { ask, type ErrorData, type LabRequest, toError } from "./control.ts";
import { LabHost } from "./lab-host.ts";
import { checkLabName, type LabOptions, planLab } from "./lab-options.ts";
import { LabPlace } from "./lab-place.ts";
import type { LabState } from "./lab-state.ts";
import type { LabOrder } from "./lab-supervisor.ts";
import { insideEnvironment } from "./place.ts";
import { requirePrograms } from "./programs.ts";
import { controlSocket, isAlive, labDirectory, labNames, reapDead } from "./runtime-directory.ts";

export interface LabUpOptions extends LabOptions {
  /** The lab outlives this process; without it, the lab ends when this process ends, however it ends. */
  readonly detached?: boolean;
  readonly progress?: (text: string) => void;
  /** Takes the lab down again while it is being set up. */
  readonly signal?: AbortSignal;
}

/** The supervisor's file lies beside this one under the same ending; in a bundle, beside the bundle. */
const supervisorFile = (): string => {
  const ending = /\/lab(\.[jt]s)$/.exec(import.meta.url)?.[1] ?? ".cjs";
  return fileURLToPath(new URL(`./lab-supervisor${ending}`, import.meta.url));
};

type Told = { readonly progress?: string; readonly state?: LabState; readonly error?: ErrorData };

/**
 * Several hosts on one machine: namespaces with a network of their own, a store and a daemon on each. This object is a handle;
 * the lab itself belongs to a supervisor process.
 *
 *     const lab = await Lab.up({ hosts: 3, store: "etcd" });
 *     await lab.host(1).run("ping", "-c1", "dnet-2");
 *     await lab.down();
 */
export class Lab {
  readonly name: string;
  /** Logs, configurations and sockets, a directory for each host. */
  readonly directory: string;
  readonly store: LabStore;
  /** The world behind the NAT of the LAN's gateway: 203.0.113.2. */
  readonly outside: LabPlace;
  /** The LAN's own namespace, with its bridge and the gateway: for tcpdump on all cables. */
  readonly lan: LabPlace;

  private constructor(name: string) {
    this.name = name;
    this.directory = labDirectory(name);
    this.store = new LabStore(this);
    this.outside = new LabPlace(this, "outside");
    this.lan = new LabPlace(this, "lan");
  }

  /**
   * Sets a lab up and waits until every daemon answers.
   * @throws NetworkError `lab-options`, `lab-name`, `lab-exists`, `lab-port`, `no-program`, `lab-command`, `lab-service`; nothing is left then
   */
  static async up(options: LabUpOptions = {}): Promise<Lab> {
    const plan = planLab(options);
    requirePrograms(plan.store);
    const order: LabOrder = { plan, detached: options.detached ?? false };
    const supervisor = spawn(process.execPath, [supervisorFile()], {
      // A session of its own: neither Ctrl-C nor the end of a terminal is meant for it.
      detached: true,
      cwd: "/",
      stdio: ["ignore", "ignore", "ignore", "ipc"],
      env: {
        ...insideEnvironment(),
        ...(process.env.XDG_RUNTIME_DIR && { XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR }),
        ...(process.env.DNET_CONSUL && { DNET_CONSUL: process.env.DNET_CONSUL }),
      },
    });
    const abort = () => supervisor.disconnect();
    try {
      await new Promise<void>((resolve, reject) => {
        supervisor.once("error", reject);
        supervisor.once("exit", (code) => {
          reject(
            options.signal?.aborted ? options.signal.reason : internal("lab", `the lab's supervisor ended (${code})`),
          );
        });
        supervisor.on("message", (message) => {
          const { progress, state, error } = message as Told;
          if (progress !== undefined) options.progress?.(progress);
          if (error) reject(toError(error));
          if (state) resolve();
        });
        options.signal?.addEventListener("abort", abort, { once: true });
        supervisor.send(order);
      });
    } finally {
      options.signal?.removeEventListener("abort", abort);
    }
    supervisor.unref();
    if (order.detached) supervisor.disconnect();
    else supervisor.channel?.unref();
    return new Lab(plan.name);
  }

  /** The running lab of a name; without one, the only lab that runs. @throws NetworkError `no-lab`, `which-lab`, `lab-name` */
  static async open(name?: string): Promise<Lab> {
    const up = "start one with: dnet lab up";
    if (name !== undefined) {
      if (await isAlive(labDirectory(checkLabName(name)))) return new Lab(name);
      throw notFound("no-lab", `no lab ${name} is running`, { hint: `see dnet lab ls, or ${up} --name ${name}` });
    }
    const [first, ...others] = await Lab.list();
    if (!first) throw notFound("no-lab", "no lab is running", { hint: up });
    if (others.length === 0) return first;
    const names = [first, ...others].map((lab) => lab.name).join(", ");
    throw badRequest("which-lab", `several labs are running: ${names}`, { hint: "say which one with --name" });
  }

  /** The labs of this user that run; not those that are being set up or taken down. */
  static async list(): Promise<readonly Lab[]> {
    await reapDead();
    const labs = labNames().map((name) => new Lab(name));
    const states = await Promise.allSettled(labs.map((lab) => lab.state()));
    return labs.filter((_, index) => states[index]?.status === "fulfilled");
  }

  state(): Promise<LabState> {
    return this.ask({ do: "state" });
  }

  /** @param host its number from 1, or its name; whether it exists shows when it is used */
  host(host: number | string): LabHost {
    return new LabHost(this, typeof host === "number" ? hostName(host) : host);
  }

  /** Host, `store`, `outside` or `lan`, by name. */
  place(name: string): LabPlace {
    return new LabPlace(this, name);
  }

  /** What a host's daemon, or the store, has logged. @throws NetworkError `no-lab-host` */
  async logs(name: string): Promise<{ readonly path: string; readonly text: string }> {
    const { hosts, store } = await this.state();
    const known = [...hosts, ...(store ? [store] : [])].map((place) => place.name);
    if (!known.includes(name)) {
      throw notFound("no-lab-host", `the lab has no log of ${shown(name)}`, { hint: `it has ${known.join(", ")}` });
    }
    const place = name === "store" ? this.store : this.host(name);
    return { path: place.logPath, text: place.log };
  }

  /** Drops what passes between each of `a` and each of `b` (hosts, `store`), both ways, in addition to what is parted already. */
  partition(a: string | readonly string[], b: string | readonly string[]): Promise<void> {
    return this.ask({ do: "partition", from: [a].flat(), to: [b].flat() });
  }

  /** Everybody reaches everybody again. */
  heal(): Promise<void> {
    return this.ask({ do: "heal" });
  }

  /** Ends every process and removes everything. */
  down(): Promise<void> {
    return this.ask({ do: "down" });
  }

  /** For `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.down();
  }

  /** Asks the supervisor. @throws NetworkError `lab-gone` where there is none any more */
  ask<T>(request: LabRequest): Promise<T> {
    return ask<T>(controlSocket(this.directory), request);
  }
}

/** The Consul or etcd of a lab; a place, too. */
export class LabStore extends LabPlace {
  constructor(lab: Lab) {
    super(lab, "store");
  }

  get logPath(): string {
    return join(this.directory, "store.log");
  }

  get log(): string {
    return readLog(this.logPath);
  }

  /** Ends the server; its data stays. */
  stop(): Promise<void> {
    return this.lab.ask({ do: "stop-store" });
  }

  start(): Promise<void> {
    return this.lab.ask({ do: "start-store" });
  }
}
