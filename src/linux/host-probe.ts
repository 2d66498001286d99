import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { promisify } from "node:util";
import type { Ip } from "../net/ip.ts";
import { ping } from "./ping.ts";
import type { NamespaceRef } from "./plan.ts";
import { portOwner } from "./port-owner.ts";

/** What is read of the host beside netlink, for whoever examines it. Everything is bounded and has a deadline. */
export interface HostProbe {
  /** Tables of nftables in the host's namespace, by family and name: `inet t`. @throws where nft does not run */
  tables(signal?: AbortSignal): Promise<readonly string[]>;
  /** A file below /proc or /sys, without the white space around it; undefined where there is none. */
  read(path: string): Promise<string | undefined>;
  /** Names in a directory; none where it does not exist. */
  names(directory: string): Promise<readonly string[]>;
  /** True where an echo from a namespace is answered; undefined where ping(8) cannot be run. */
  answers(namespace: NamespaceRef, to: Ip, signal?: AbortSignal): Promise<boolean | undefined>;
  /** The program that is bound to a port of the host, as `nginx (process 123)`; undefined where that cannot be told. */
  portOwner(protocol: "tcp" | "udp" | "sctp", port: number): string | undefined;
  /** A network card's driver and the features that are on, by their names of ethtool(8); undefined where that is not there or cannot tell. */
  offload(device: string, signal?: AbortSignal): Promise<Offload | undefined>;
}

export interface Offload {
  readonly driver: string;
  readonly features: readonly string[];
}

/** Milliseconds for one program. */
const deadline = 5_000;
/** Bytes of what a program prints. */
const mostOutput = 16 * 1024 * 1024;
const execute = promisify(execFile);

/** The probe of the host that this process runs on. */
export const hostProbe = (): HostProbe => ({
  async tables(signal) {
    const options = { timeout: deadline, maxBuffer: mostOutput, encoding: "utf8", ...(signal && { signal }) } as const;
    const { stdout } = await execute("nft", ["list", "tables"], options);
    return stdout.split("\n").flatMap((line) => /^table (\S+ \S+)$/.exec(line)?.[1] ?? []);
  },
  async read(path) {
    try {
      return (await readFile(path, "utf8")).trim();
    } catch {
      return undefined;
    }
  },
  names: (directory) => readdir(directory).catch(() => []),
  async answers(namespace, to, signal) {
    const result = await ping(namespace, to, signal);
    signal?.throwIfAborted();
    return result && result.received > 0;
  },
  portOwner,
  async offload(device, signal) {
    const options = { timeout: deadline, maxBuffer: mostOutput, encoding: "utf8", ...(signal && { signal }) } as const;
    try {
      const { stdout: about } = await execute("ethtool", ["-i", device], options);
      const { stdout: list } = await execute("ethtool", ["-k", device], options);
      const driver = /^driver: (\S+)/m.exec(about)?.[1];
      return driver === undefined ? undefined : { driver, features: featuresOn(list) };
    } catch {
      signal?.throwIfAborted();
      return undefined;
    }
  },
});

/** From `ethtool -k`: `tx-udp_tnl-segmentation: on [fixed]`. */
export const featuresOn = (list: string): readonly string[] =>
  [...list.matchAll(/^\s*([\w-]+): on\b/gm)].map(([, name = ""]) => name);
