import { writeFileSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { DaemonProcess, ok } from "../e2e/dnet.ts";
import { enterOwnHost, expectNothingLeft, run, shell } from "../own-host.ts";
import { EtcdServer } from "../store/etcd-server.ts";
import { runSoak } from "./run-soak.ts";

/** `make soak` takes an hour. */
const seconds = Number(process.env.SOAK_SECONDS ?? 120);
const config = "/run/soak.toml";
let etcd: EtcdServer;
let daemon: DaemonProcess | undefined;

beforeAll(async () => {
  enterOwnHost();
  shell("ip link add under0 type veth peer name under1; ip address add 10.9.0.1/24 dev under0");
  shell("ip link set under0 up; ip link set under1 up");
  etcd = new EtcdServer();
  await etcd.start();
  const lines = ["[cluster]", 'address = "10.9.0.1"', "serf = false", "[scopes.global.client]", 'provider = "etcd"'];
  writeFileSync(config, [...lines, `address = "${etcd.address}"`, ""].join("\n"));
});
afterAll(async () => {
  await daemon?.stop("SIGKILL");
  await etcd.remove();
  shell("ip link delete under0");
  expectNothingLeft();
});

it(
  `${seconds} s of churn, with restarts of the store, leave the daemon, the store and the kernel as they were`,
  async () => {
    const running = await DaemonProcess.start("-c", config);
    daemon = running;
    const { problems, table, rounds, restarts } = await runSoak(
      {
        pid: running.pid,
        socket: "/run/dnet.sock",
        storeKeys: () =>
          run("etcdctl", "--endpoints", etcd.address, "get", "--prefix", "dnet/", "--keys-only")
            .split("\n")
            .filter(Boolean),
        restartStore: async () => {
          await etcd.stop();
          await etcd.start();
        },
      },
      seconds,
    );
    console.log(`${rounds} rounds in ${seconds} s, ${restarts} restarts of the store\n${table}`);
    expect(problems).toEqual([]);
    expect(running.log).not.toMatch(/level=error/);
    for (const { id } of JSON.parse(ok("network", "ls", "--format", "json")) as { id: string }[])
      ok("network", "rm", id);
    await running.stop();
  },
  (seconds + 120) * 1000,
);
