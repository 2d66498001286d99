import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Moves the bench into a host of its own (network and mount namespaces): the machine's network is untouched. */
export const enterHost = (script: string): boolean => {
  if (process.env.DNET_BENCH_INSIDE === "1") {
    mkdirSync("/var/lib/docker", { recursive: true });
    execFileSync("mount", ["-t", "tmpfs", "none", "/run"]);
    execFileSync("ip", ["link", "set", "lo", "up"]);
    return true;
  }
  if (process.getuid?.() !== 0) throw new Error("the bench needs root: it makes namespaces");
  const child = spawn(
    "unshare",
    ["--net", "--mount", "--propagation", "private", process.execPath, script, ...process.argv.slice(2)],
    { stdio: "inherit", env: { ...process.env, DNET_BENCH_INSIDE: "1" } },
  );
  child.on("exit", (code) => {
    process.exitCode = code ?? 1;
  });
  return false;
};

export interface Daemon {
  readonly process: ChildProcess;
  readonly socket: string;
  /** Resident memory, MiB. */
  readonly memory: () => number;
  readonly stop: () => Promise<void>;
}

const root = new URL("..", import.meta.url).pathname;

/** Starts the built daemon with its data on disk and waits until it listens. */
export const startDaemon = async (): Promise<Daemon> => {
  mkdirSync(join(root, ".cache"), { recursive: true });
  const directory = mkdtempSync(join(root, ".cache/bench-"));
  const socket = "/run/bench.sock";
  const config = join(directory, "dnet.toml");
  writeFileSync(
    config,
    `[daemon]\ndataDir = "${directory}/data"\nexecRoot = "/run/docker"\nhosts = ["unix://${socket}"]\n`,
  );
  const child = spawn(join(root, "bin/dnet"), ["-d", "-c", config], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  await new Promise<void>((resolve, reject) => {
    let text = "";
    child.stderr?.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      if (text.includes("is ready")) resolve();
    });
    child.on("exit", () => reject(new Error(`the daemon ended: ${text}`)));
  });
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  return {
    process: child,
    socket,
    memory: () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1] ?? 0) / 1024,
    stop: async () => {
      child.kill("SIGTERM");
      await gone;
      if (existsSync(directory)) rmSync(directory, { recursive: true });
    },
  };
};
