import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { promisify } from "node:util";

/** What is read of the host beside netlink, for whoever examines it. Everything is bounded and has a deadline. */
export interface HostProbe {
  /** Tables of nftables in the host's namespace, by family and name: `inet t`. @throws where nft does not run */
  tables(signal?: AbortSignal): Promise<readonly string[]>;
  /** A file below /proc or /sys, without the white space around it; undefined where there is none. */
  read(path: string): Promise<string | undefined>;
  /** Names in a directory; none where it does not exist. */
  names(directory: string): Promise<readonly string[]>;
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
});
