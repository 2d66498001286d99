import type { HostProbe } from "../../src/linux/host-probe.ts";

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
  async names(directory: string): Promise<readonly string[]> {
    return this.directories.get(directory) ?? [];
  }
}
