import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { DockerHost } from "../test/e2e/docker-host.ts";
import { type Figures, ms } from "./figures.ts";

/** Peers where they are installed, in the same run: what a process a call costs. */

const directories = [process.env.CNI_PATH, "/opt/cni/bin", "/usr/lib/cni"];

const configuration = JSON.stringify({
  cniVersion: "0.4.0",
  name: "bench",
  type: "bridge",
  bridge: "cni-bench0",
  isGateway: true,
  ipam: { type: "host-local", subnet: "10.210.0.0/16", dataDir: "/run/cni" },
});

/** The CNI plugin `bridge`: ADD and DEL of one sandbox. */
export const cni = async (figures: Figures, rounds: number): Promise<void> => {
  const directory = directories.find((path) => path !== undefined && existsSync(join(path, "bridge")));
  if (directory === undefined) {
    console.log("\ncni: no bridge plugin in /opt/cni/bin, /usr/lib/cni or CNI_PATH: not measured");
    return;
  }
  const plugin = (command: string, name: string) => {
    const { status, stdout } = spawnSync(join(directory, "bridge"), {
      input: configuration,
      encoding: "utf8",
      env: {
        PATH: process.env.PATH,
        CNI_COMMAND: command,
        CNI_CONTAINERID: name,
        CNI_NETNS: `/run/netns/${name}`,
        CNI_IFNAME: "eth0",
        CNI_PATH: directory,
      },
    });
    if (status !== 0) throw new Error(`cni ${command}: ${stdout}`);
  };
  for (let n = 0; n < rounds; n++) {
    const name = `cni${n}`;
    spawnSync("ip", ["netns", "add", name]);
    await figures.time("cni bridge ADD", () => plugin("ADD", name));
    await figures.time("cni bridge DEL", () => plugin("DEL", name));
    spawnSync("ip", ["netns", "delete", name]);
  }
  spawnSync("ip", ["link", "delete", "cni-bench0"]);
  console.log(
    `\ncni bridge plugin: ADD ${ms(figures.at("cni bridge ADD", 0.5))} ms, DEL ${ms(figures.at("cni bridge DEL", 0.5))} ms (p50)`,
  );
};

/** `docker network create` and `rm` beside ours, each by its command line. @param ours runs `dnet network ARGS` */
export const docker = async (
  figures: Figures,
  rounds: number,
  ours: (...args: readonly string[]) => void,
): Promise<void> => {
  if (spawnSync("dockerd", ["--version"]).error) {
    console.log("\ndocker: dockerd is not installed: not measured");
    return;
  }
  for (const directory of ["/var/lib/docker", "/etc/docker"]) {
    mkdirSync(directory, { recursive: true });
    execFileSync("mount", ["-t", "tmpfs", "none", directory]);
  }
  const host = new DockerHost();
  try {
    await host.start();
    for (let n = 0; n < rounds; n++) {
      await figures.time("docker create", async () => host.docker("network", "create", "peer"));
      await figures.time("docker rm", async () => host.docker("network", "rm", "peer"));
      await figures.time("dnet create", async () => ours("create", "peer"));
      await figures.time("dnet rm", async () => ours("rm", "peer"));
    }
  } finally {
    await host.close();
    for (const directory of ["/var/lib/docker", "/etc/docker"]) execFileSync("umount", ["-l", directory]);
  }
  const at = (name: string) => ms(figures.at(name, 0.5));
  console.log(
    `\nnetworks by the command line (p50, ms): docker create ${at("docker create")} rm ${at("docker rm")}, dnet create ${at("dnet create")} rm ${at("dnet rm")}`,
  );
};
