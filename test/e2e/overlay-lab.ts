import type { ChildProcess } from "node:child_process";
import type { NetworkResource, SandboxResource, ServiceResource } from "../../src/api/resources.ts";
import { Lab, type LabUpOptions } from "../../src/lab/lab.ts";

/** Containers on the hosts of a lab, each with a service of its name, and what can be seen from inside them. */
export class OverlayLab {
  readonly lab: Lab;
  readonly #networks = new Map<string, string>();

  private constructor(lab: Lab) {
    this.lab = lab;
  }

  static async up(options: LabUpOptions = {}): Promise<OverlayLab> {
    return new OverlayLab(await Lab.up({ store: "etcd", ...options }));
  }

  down(): Promise<void> {
    return this.lab.down();
  }

  /** `dnet ARGS` against a host's daemon, which must succeed. @returns standard output without the last newline */
  async dnet(host: number, ...args: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await this.lab.host(host).dnet(...args);
    if (status !== 0) throw new Error(`dnet-${host}: dnet ${args.join(" ")}: status ${status}\n${stdout}${stderr}`);
    return stdout.replace(/\n$/, "");
  }

  async json<T>(host: number, ...args: readonly string[]): Promise<T> {
    return JSON.parse(await this.dnet(host, ...args, "--format", "json")) as T;
  }

  service(host: number, name: string): Promise<ServiceResource> {
    return this.json<ServiceResource>(host, "service", "info", name);
  }

  container(host: number, name: string): Promise<SandboxResource> {
    return this.json<SandboxResource>(host, "container", "info", name);
  }

  async address(host: number, service: string, family = 4): Promise<string> {
    const { addresses = [] } = await this.service(host, service);
    const found = addresses.find((address) => address.includes(":") === (family === 6));
    return found?.slice(0, found.indexOf("/")) ?? "";
  }

  /** A container, its service on each of the networks, attached. @param more further flags of `service publish` */
  async join(host: number, name: string, networks: readonly string[], ...more: readonly string[]): Promise<void> {
    await this.dnet(host, "container", "create", name);
    for (const network of networks) {
      await this.dnet(host, "service", "publish", ...more, `${name}.${network}`);
      await this.dnet(host, "service", "attach", name, `${name}.${network}`);
    }
  }

  /** What runs a command in a container's network, with its resolv.conf and hosts, as a container runtime would. */
  async inside(host: number, container: string, ...command: readonly string[]): Promise<readonly string[]> {
    const { id, key } = await this.container(host, container);
    const script = `mount --bind /var/lib/docker/network/files/${id}/resolv.conf /etc/resolv.conf
      mount --bind /var/lib/docker/network/files/${id}/hosts /etc/hosts
      exec nsenter --net=${key} "$@"`;
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", ...command];
  }

  /** The same, run to its end. */
  async run(host: number, container: string, ...command: readonly string[]) {
    return this.lab.host(host).exec(...(await this.inside(host, container, ...command)));
  }

  /** Pings until the first answer, for 10 s at most: what has just joined is heard of on other hosts a moment later. */
  async reaches(host: number, container: string, to: string, ...more: readonly string[]): Promise<boolean> {
    const { status } = await this.run(host, container, "ping", "-c", "1", "-w", "10", ...more, to);
    return status === 0;
  }

  /** In the namespace of an overlay network on a host. */
  async overlay(host: number, network: string, ...command: readonly string[]): Promise<string> {
    // Asked once: the host's daemon may be away later.
    const id = this.#networks.get(network) ?? (await this.json<NetworkResource>(host, "network", "info", network)).id;
    this.#networks.set(network, id);
    return this.lab.host(host).run("nsenter", `--net=/var/run/docker/netns/1-${id.slice(0, 10)}`, ...command);
  }

  /** Ten pings a second, until `Pings.stop`. */
  async pings(host: number, container: string, to: string): Promise<Pings> {
    const command = await this.inside(host, container, ...Pings.command(to));
    return new Pings(await this.lab.host(host).spawn(command, { stdio: ["pipe", "pipe", "pipe"] }));
  }
}

/** A running ping. */
export class Pings {
  /** What runs where the ping is to come from, with its input and output piped. SIGINT makes ping count; it must reach ping itself. */
  static command(to: string): readonly string[] {
    return ["sh", "-c", 'ping -n -i 0.1 -W 5 "$0" & read -r line; kill -INT $!; wait $!', to];
  }

  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  text = "";

  constructor(child: ChildProcess) {
    this.#child = child;
    this.#ended = new Promise((resolve) => child.once("close", () => resolve()));
    for (const stream of [child.stdout, child.stderr])
      stream?.on("data", (chunk: Buffer) => {
        this.text += chunk.toString();
      });
  }

  /** How many answers came. */
  get answers(): number {
    return this.text.match(/ time=/g)?.length ?? 0;
  }

  async stop(): Promise<{ readonly sent: number; readonly lost: number }> {
    this.#child.stdin?.end("\n");
    await this.#ended;
    // Of those up to the last answer: ping counts the one that is on its way when it is ended as lost.
    const answered = new Set([...this.text.matchAll(/icmp_seq=(\d+) .*time=/g)].map(([, n]) => Number(n)));
    const sent = Math.max(0, ...answered);
    return { sent, lost: sent - answered.size };
  }
}
