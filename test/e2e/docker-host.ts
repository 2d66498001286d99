import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { eventually, run, shell } from "../own-host.ts";

/**
 * The real dockerd with a containerd of its own, in the test's host: its directories are Docker's own ones, which are private there, and
 * which ours are in as well. Its containers come from an image that is made of one static busybox.
 */

const docker = (...args: readonly string[]): string =>
  run("env", "DOCKER_CONFIG=/run/docker-cli", "DOCKER_HOST=unix:///run/docker.sock", "docker", ...args).trim();

/** The machine has one tree of control groups: a name of this test's own in it. */
const cgroupParent = `dnet-test-${process.pid}`;

/** Everything that is not needed here, above all what would write outside of the test's directories. */
const containerdConfig = `version = 2
root = "/run/containerd-root"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = "/run/containerd/containerd.sock"
`;

const start = (log: string, program: string, ...args: readonly string[]): ChildProcess => {
  const out = openSync(log, "a");
  try {
    return spawn(program, args, { stdio: ["ignore", out, out] });
  } finally {
    closeSync(out);
  }
};

const end = async (child: ChildProcess | undefined): Promise<void> => {
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await ended;
};

export class DockerHost {
  static readonly log = "/run/dockerd.log";
  #containerd: ChildProcess | undefined;
  #dockerd: ChildProcess | undefined;

  /** Starts Docker, or starts it again; containers that ran go on running meanwhile. */
  async start(...more: readonly string[]): Promise<void> {
    if (!this.#containerd) {
      writeFileSync("/run/containerd.toml", containerdConfig);
      this.#containerd = start("/run/containerd.log", "containerd", "--config", "/run/containerd.toml");
    }
    const directories = ["--data-root", "/var/lib/docker", "--exec-root", "/var/run/docker", "--storage-driver", "vfs"];
    const runtime = ["--containerd", "/run/containerd/containerd.sock", "--live-restore"];
    const groups = ["--cgroup-parent", cgroupParent, "--exec-opt", "native.cgroupdriver=cgroupfs"];
    const args = [...directories, ...runtime, ...groups, "-H", "unix:///run/docker.sock", "-p", "/run/dockerd.pid"];
    const child = start(DockerHost.log, "dockerd", ...args, ...more);
    this.#dockerd = child;
    await eventually(
      "dockerd serves",
      () => {
        if (child.exitCode !== null) throw new Error(`dockerd ended:\n${readFileSync(DockerHost.log, "utf8")}`);
        return answers();
      },
      60_000,
    );
  }

  /** As `docker ARGS`, which must succeed. */
  docker(...args: readonly string[]): string {
    return docker(...args);
  }

  /** What `docker ARGS` complains of. */
  refusal(...args: readonly string[]): string {
    try {
      docker(...args);
    } catch (error) {
      return String((error as { stderr?: unknown }).stderr);
    }
    throw new Error(`docker ${args.join(" ")} was not refused`);
  }

  /** An image of a busybox and of the libraries that it needs, `tiny`. */
  makeImage(): void {
    shell(`
      mkdir -p /run/image/bin
      program=$(command -v busybox)
      cp "$program" /run/image/bin/busybox
      for library in $(ldd "$program" 2>/dev/null | grep -o '/[^ ]*'); do cp --parents "$library" /run/image; done
      tar -C /run/image -c . > /run/image.tar`);
    docker("import", "/run/image.tar", "tiny");
  }

  /** A container that does nothing. @returns its process: programs are started in its network from outside */
  run(name: string, ...flags: readonly string[]): number {
    docker("run", "-d", "--init=false", "--name", name, ...flags, "tiny", "/bin/busybox", "sleep", "100000");
    return Number(docker("inspect", "-f", "{{.State.Pid}}", name));
  }

  /** A container's address on a network. */
  address(name: string, network = "bridge"): string {
    return docker("inspect", "-f", `{{(index .NetworkSettings.Networks "${network}").IPAddress}}`, name);
  }

  /** What Docker has in the kernel, without counters: its chains and its links. */
  rules(): string {
    return shell(
      "for family in ip ip6; do for table in nat filter; do nft -s list table $family $table 2>/dev/null || true; done; done",
    );
  }

  /** Stops the daemon only. */
  async stop(): Promise<void> {
    await end(this.#dockerd);
    this.#dockerd = undefined;
  }

  /** Removes its containers and networks and stops it all; what Docker itself leaves then is taken away, too. */
  async close(): Promise<void> {
    try {
      if (this.#dockerd && answers()) {
        for (const id of docker("ps", "-aq").split("\n").filter(Boolean)) docker("rm", "-f", id);
        docker("network", "prune", "-f");
      }
    } finally {
      await this.stop();
      await end(this.#containerd);
      this.#containerd = undefined;
    }
    shell(`ip link delete docker0 2>/dev/null || true
      for family in ip ip6; do for table in nat filter; do nft delete table $family $table 2>/dev/null || true; done; done
      umount -l /run/docker/netns/default 2>/dev/null || true`);
    // Under each controller, where that has a hierarchy of its own.
    shell(
      `find /sys/fs/cgroup -ignore_readdir_race -depth -type d \\( -name '${cgroupParent}' -o -path '*/${cgroupParent}/*' \\) -exec rmdir {} +`,
    );
  }
}

const answers = (): boolean => {
  try {
    docker("version");
    return true;
  } catch {
    return false;
  }
};
