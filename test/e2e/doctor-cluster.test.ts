import { afterAll, beforeAll, expect, it } from "vitest";
import type { DiagnosisResource, NodeResource, ServiceResource } from "../../src/api/resources.ts";
import { enterOwnHost, eventually, expectNothingLeft, sweep } from "../own-host.ts";
import { dnet, ok } from "./dnet.ts";
import { EtcdNode } from "./etcd-node.ts";

/** A daemon that shares a real etcd with nodes that exist there only, and with somebody who edits it by hand while it runs. */

const lost = "0a0a0b02";
const node = new EtcdNode();

beforeAll(async () => {
  enterOwnHost();
  await node.start();
  ok("network", "create", "-d", "overlay", "multi");
  ok("service", "publish", "s1.multi");
  ok("service", "publish", "s2.multi");
});
afterAll(async () => {
  await node.end();
  sweep();
  expectNothingLeft();
});

const etcdctl = (...words: readonly string[]) => node.etcdctl(...words);
const put = (key: string, value: unknown) => etcdctl("put", `dnet/${key}`, JSON.stringify(value));
const examine = (...flags: readonly string[]): readonly string[] => {
  const answer = JSON.parse(dnet("doctor", "--format", "json", ...flags).stdout) as DiagnosisResource & {
    readonly after?: DiagnosisResource;
  };
  const { findings, unchecked } = answer.after ?? answer;
  expect(unchecked).toEqual([]);
  return [...new Set(findings.map(({ code }) => code))].sort();
};
const service = (name: string) =>
  (JSON.parse(ok("service", "ls", "--format", "json")) as ServiceResource[]).find((one) => one.name === name);
const nodes = () => JSON.parse(ok("node", "ls", "--format", "json")) as NodeResource[];

it("a key that somebody removed or added while the daemon runs is found and put right", async () => {
  expect(examine()).toEqual([]);
  const network = service("s1")?.network_id ?? "";
  etcdctl("del", `dnet/global/endpoint-names/${network}/s1`);
  put("global/segments/overlay/300", { network: "e".repeat(64) });
  await eventually("it is found", () => examine().join() === "guard-without-owner,no-guard", 60_000);
  expect(examine("--repair")).toEqual([]);
  expect(JSON.parse(etcdctl("get", "--print-value-only", `dnet/global/endpoint-names/${network}/s1`))).toEqual({
    endpoint: service("s1")?.id,
  });
  expect(etcdctl("get", "dnet/global/segments/overlay/300")).toBe("");
});

it("dnet gc removes what a node that will not come back has left, and no node that is alive", async () => {
  const id = service("s2")?.id;
  const key = `global/endpoints/${service("s2")?.network_id}/${id}`;
  const record = JSON.parse(etcdctl("get", "--print-value-only", `dnet/${key}`)) as Record<string, unknown>;
  const claim = { id: "c".repeat(64), node: lost, vtep: "10.9.0.2", container: "cx", interface: "eth0", order: 0 };
  put(key, { ...record, sandbox: { ...claim, aliases: [] } });
  const time = new Date().toISOString();
  const facts = { address: "10.9.0.2", dnetVersion: "0.1.0", started: time, bootId: "b" };
  put(`nodes/${lost}`, { version: 1, id: lost, name: "lost", ...facts });
  await eventually("the node is known", () => nodes().some(({ name, state }) => name === "lost" && state === "gone"));
  await eventually("it is found", () => examine().join() === "claims-of-gone-node", 60_000);
  const self = nodes().find((node) => node.self)?.id ?? "";
  const refused = dnet("gc", self);
  expect([refused.status, refused.stderr]).toEqual([1, expect.stringContaining(`(${self}) is alive`)]);
  expect(dnet("gc", "lost").stdout).toBe(
    [
      `lost (${lost}): service s2 of network multi: detached from container cx\n`,
      `lost (${lost}): the record of the node\n`,
    ].join(""),
  );
  expect(examine()).toEqual([]);
  expect(etcdctl("get", `dnet/nodes/${lost}`)).toBe("");
  expect(JSON.parse(etcdctl("get", "--print-value-only", `dnet/${key}`))).not.toHaveProperty("sandbox");
});

it("with the shared store away it says what it could not look at, and its status is another", async () => {
  await node.etcd.stop();
  await eventually("the store is missed", () => dnet("doctor").status === 2, 60_000);
  expect(dnet("doctor").stdout).toContain("could not look at names and addresses: the shared store: ");
  expect(dnet("gc", lost).stderr).toContain("the global store does not answer");
  await node.etcd.start();
  await eventually("it is back", () => dnet("doctor").status === 0, 60_000);
});
