import type { ChildProcess } from "node:child_process";
import { readdirSync } from "node:fs";
import { expect } from "vitest";
import type { SandboxResource, ServiceResource } from "../../src/api/resources.ts";
import { run, shell, sweep } from "../own-host.ts";
import { DaemonProcess, ok } from "./dnet.ts";
import { Outside } from "./outside.ts";
import { call, serve, stop } from "./port-peers.ts";

/** A host with a neighbour on its LAN, a daemon, and containers with servers inside. */

export const host = "203.0.113.1";
export const host6 = "2001:db8::1";
export const outside6 = "2001:db8::2";

export const infoOf = (container: string): SandboxResource =>
  JSON.parse(ok("container", "info", container, "--format", "json")) as SandboxResource;

export const shownPorts = (container: string): readonly string[] =>
  infoOf(container).published_ports?.map(({ text }) => text) ?? [];

/** The address of a service without its length. */
export const addressOf = (service: string, family: 4 | 6 = 4): string => {
  const { addresses = [] } = JSON.parse(ok("service", "info", service, "--format", "json")) as ServiceResource;
  return addresses.find((address) => address.includes(":") === (family === 6))?.split("/")[0] ?? "";
};

type Ports = readonly (readonly ["tcp" | "udp", number, string?])[];

export class PortHost {
  readonly outside = new Outside();
  daemon: DaemonProcess | undefined;
  readonly #servers: ChildProcess[] = [];

  async connect(): Promise<void> {
    await this.outside.connect();
    // Clients and servers take ports of their own choice; those that tests publish stay free.
    shell("echo 32768 60999 > /proc/sys/net/ipv4/ip_local_port_range");
    run("ip", "address", "add", `${host6}/64`, "dev", "wan0", "nodad");
    this.outside.exec("ip", "address", "add", `${outside6}/64`, "dev", "eth0", "nodad");
  }

  async start(): Promise<DaemonProcess> {
    this.daemon = await DaemonProcess.start("-D");
    return this.daemon;
  }

  async restart(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    await this.daemon?.stop(signal);
    await this.start();
  }

  get log(): string {
    return this.daemon?.log ?? "";
  }

  /** Files that the daemon has open. */
  descriptors(): number {
    return readdirSync(`/proc/${this.daemon?.pid}/fd`).length;
  }

  async serve(place: string | number | undefined, name: string, ports: Ports): Promise<ChildProcess> {
    const server = await serve(place, name, ports);
    this.#servers.push(server);
    return server;
  }

  /** A container with ports, attached to a network, with a server inside. */
  async run(container: string, network: string, flags: readonly string[], ports: Ports): Promise<SandboxResource> {
    ok("container", "create", ...flags, container);
    this.attach(container, network);
    const info = infoOf(container);
    if (ports.length > 0) await this.serve(info.key, container, ports);
    return info;
  }

  attach(container: string, network: string): void {
    ok("service", "publish", `${container}.${network}`);
    ok("service", "attach", container, `${container}.${network}`);
  }

  /** What the neighbour hears. */
  fromLan(protocol: "tcp" | "udp", port: number, more: Parameters<typeof call>[4] = {}, address = host): string {
    return call(this.outside.pid, protocol, address, port, more);
  }

  /** Removes everything through the command line and stops the daemon; what is left then is a leak. */
  async removeAll(): Promise<void> {
    for (const server of this.#servers.splice(0)) await stop(server);
    for (const { container_id } of JSON.parse(ok("container", "ls", "--format", "json")) as SandboxResource[])
      ok("container", "rm", container_id);
    expect(run("nft", "list", "tables")).not.toContain("_ports");
    for (const { name, network } of JSON.parse(ok("service", "ls", "--format", "json")) as ServiceResource[])
      ok("service", "unpublish", `${name}.${network}`);
    for (const { id } of JSON.parse(ok("network", "ls", "--format", "json")) as { id: string }[])
      ok("network", "rm", id);
    expect(await this.daemon?.stop()).toBe(0);
    this.daemon = undefined;
    expect(run("nft", "list", "tables")).toBe("");
  }

  /** After a test that failed: what it left must not fail the next one. */
  async sweep(): Promise<void> {
    for (const server of this.#servers.splice(0)) await stop(server);
    if (!this.daemon) return;
    await this.daemon.stop("SIGKILL");
    this.daemon = undefined;
    sweep();
  }
}
