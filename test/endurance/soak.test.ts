import { afterAll, beforeAll, expect, it } from "vitest";
import { ok } from "../e2e/dnet.ts";
import { EtcdNode } from "../e2e/etcd-node.ts";
import { enterOwnHost, expectNothingLeft, shell } from "../own-host.ts";
import { runSoak } from "./run-soak.ts";

/** `make soak` takes an hour. */
const seconds = Number(process.env.SOAK_SECONDS ?? 120);
const node = new EtcdNode();

beforeAll(async () => {
  enterOwnHost();
  await node.start();
});
afterAll(async () => {
  await node.end();
  shell("ip link delete under0");
  expectNothingLeft();
});

it(
  `${seconds} s of churn, with restarts of the store, leave the daemon, the store and the kernel as they were`,
  async () => {
    const { problems, table, rounds, restarts } = await runSoak(
      {
        pid: node.daemon.pid,
        socket: "/run/dnet.sock",
        storeKeys: () => node.etcdctl("get", "--prefix", "dnet/", "--keys-only").split("\n").filter(Boolean),
        restartStore: async () => {
          await node.etcd.stop();
          await node.etcd.start();
        },
      },
      seconds,
    );
    console.log(`${rounds} rounds in ${seconds} s, ${restarts} restarts of the store\n${table}`);
    expect(problems).toEqual([]);
    expect(node.daemon.log).not.toMatch(/level=error/);
    for (const { id } of JSON.parse(ok("network", "ls", "--format", "json")) as { id: string }[])
      ok("network", "rm", id);
    await node.daemon.stop();
  },
  (seconds + 600) * 1000,
);
