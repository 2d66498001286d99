import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from "node:fs";
import koffi from "koffi";
import { expect } from "vitest";

/**
 * A "host" of a test's own: the test process moves into new network and mount namespaces, with private /run, /var/lib/docker
 * and /etc/docker. Processes it starts are born inside. The machine's own network is never touched.
 */

const libc = koffi.load(null);
const unshare = libc.func("int unshare(int flags)");
const mount = libc.func(
  "int mount(const char *source, const char *target, const char *type, unsigned long flags, void *data)",
);

const CLONE_NEWNS = 0x20000;
const CLONE_NEWNET = 0x40000000;
const MS_REC_PRIVATE = 0x4000 | 0x40000;

export const isRoot = process.getuid?.() === 0;

/** What a test that needs root does without it: CI fails, a user sees the reason. */
export const requireRoot = (): void => {
  if (!isRoot) throw new Error("this test needs root: run it as root, or with sudo");
};

let entered = false;

/** Moves this process in, once; call it before anything starts a thread or a process. */
export const enterOwnHost = (): void => {
  requireRoot();
  if (entered) return;
  if (unshare(CLONE_NEWNET | CLONE_NEWNS) !== 0) throw new Error(`unshare: errno ${koffi.errno()}`);
  if (mount("none", "/", null, MS_REC_PRIVATE, null) !== 0) throw new Error(`mount private: errno ${koffi.errno()}`);
  for (const path of ["/run", "/var/lib/docker", "/etc/docker"]) {
    mkdirSync(path, { recursive: true });
    if (mount("tmpfs", path, "tmpfs", 0, null) !== 0) throw new Error(`mount ${path}: errno ${koffi.errno()}`);
  }
  execFileSync("ip", ["link", "set", "lo", "up"]);
  entered = true;
};

/** Gives the test's host resolvers of its own. */
export const setResolvConf = (text: string): void => {
  writeFileSync("/run/resolv.conf", text);
  run("mount", "--bind", "/run/resolv.conf", "/etc/resolv.conf");
};

/** Runs a program in the test's host and returns what it printed. */
export const run = (program: string, ...args: readonly string[]): string =>
  execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], timeout: 30_000 });

export const shell = (script: string): string => run("sh", "-ec", script);

/** Inside a namespace given by its path. */
export const inside = (namespace: string, program: string, ...args: readonly string[]): string =>
  run("nsenter", `--net=${namespace}`, program, ...args);

/** Waits until a condition holds. @throws Error that names it, after the deadline (ms) */
export const eventually = async (what: string, condition: () => boolean | Promise<boolean>, deadline = 10_000) => {
  const end = performance.now() + deadline;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within ${deadline} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};

/** Removes whatever a failed test left in the test's host, except the way outside. */
export const sweep = (): void => {
  shell(`
    umount -l /run/docker/netns/* 2>/dev/null || true
    rm -rf /run/docker /run/*.sock /var/lib/docker/*
    for link in $(ip -br link | cut -d' ' -f1 | cut -d@ -f1 | grep -vE '^(lo|wan0)$'); do ip link delete "$link" 2>/dev/null || true; done
    nft flush ruleset`);
};

interface Leftovers {
  readonly links: readonly string[];
  readonly namespaces: readonly string[];
  readonly tables: string;
  readonly routes: string;
  readonly rules: string;
  readonly mounts: readonly string[];
  readonly processes: readonly string[];
  readonly descriptors: readonly string[];
}

const list = (path: string): readonly string[] => (existsSync(path) ? readdirSync(path) : []);

/** What `/proc` says of a process, empty where it is gone meanwhile or a zombie. */
const ofProcess = (read: () => string): string => {
  try {
    return read();
  } catch {
    return "";
  }
};
const link = (path: string): string => ofProcess(() => readlinkSync(path));

/** Everything a test starts lives in the test's mount namespace, also when its parent has died. */
const processes = (): readonly string[] => {
  const own = link("/proc/self/ns/mnt");
  return list("/proc")
    .filter((pid) => /^\d+$/.test(pid) && pid !== String(process.pid) && link(`/proc/${pid}/ns/mnt`) === own)
    .map((pid) => ofProcess(() => readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")))
    .filter((command) => command !== "");
};

/** Descriptors of namespaces, which they keep alive; not the way back to the own one. */
const descriptors = (): readonly string[] => {
  const own = statSync("/proc/self/ns/net");
  return list("/proc/self/fd").filter((fd) => {
    const opened = statSync(`/proc/self/fd/${fd}`, { throwIfNoEntry: false });
    return opened?.dev === own.dev && opened.ino !== own.ino;
  });
};

/** What a finished test must have left of itself: nothing. */
export const leftovers = (): Leftovers => ({
  links: (JSON.parse(run("ip", "-j", "link")) as { ifname: string }[])
    .map(({ ifname }) => ifname)
    .filter((n) => n !== "lo"),
  namespaces: list("/run/docker/netns"),
  tables: run("nft", "list", "tables"),
  routes: run("ip", "route") + run("ip", "-6", "route"),
  // Beside the kernel's own: local, main, default.
  rules: (run("ip", "rule") + run("ip", "-6", "rule")).replace(/^(0|32766|32767):.*\n/gm, ""),
  mounts: run("cat", "/proc/self/mountinfo")
    .split("\n")
    .filter((line) => line.includes("nsfs")),
  processes: processes(),
  descriptors: descriptors(),
});

export const expectNothingLeft = (): void =>
  expect(leftovers()).toEqual({
    links: [],
    namespaces: [],
    tables: "",
    routes: "",
    rules: "",
    mounts: [],
    processes: [],
    descriptors: [],
  });
