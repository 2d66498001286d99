import type { HostProbe, Offload } from "../../src/linux/host-probe.ts";

/** What is read of the host, given by the test. */
export class FakeProbe implements HostProbe {
  readonly tableNames: string[] = [];
  readonly files = new Map<string, string>();
  readonly directories = new Map<string, readonly string[]>();

  async tables(): Promise<readonly string[]> {
    return this.tableNames;
  }
  async read(path: string): Promise<string | undefined> {
    return this.files.get(path);
  }
  /** Addresses that answer no echo, and all that were asked. */
  readonly silent = new Set<string>();
  readonly asked: string[] = [];
  readonly owners = new Map<string, string>();
  readonly offloads = new Map<string, Offload>();

  async answers(_namespace: string, to: string): Promise<boolean | undefined> {
    this.asked.push(to);
    return !this.silent.has(to);
  }
  portOwner(protocol: string, port: number): string | undefined {
    return this.owners.get(`${protocol} ${port}`);
  }
  async offload(device: string): Promise<Offload | undefined> {
    return this.offloads.get(device);
  }
  async names(directory: string): Promise<readonly string[]> {
    return this.directories.get(directory) ?? [];
  }
}
