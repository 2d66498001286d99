import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openFakeLibnetwork } from "../../../test/fakes/fake-libnetwork.ts";
import { createApi } from "../../api/server.ts";
import type { ClusterNode } from "../../cluster/merge-nodes.ts";
import { parseIp } from "../../net/ip.ts";
import { main } from "../main.ts";

const node = (id: string, name: string, more: Partial<ClusterNode> = {}): ClusterNode => ({
  id,
  name,
  address: parseIp("10.0.0.1"),
  version: "0.1.0",
  state: "alive",
  self: false,
  ...more,
});
const nodes: readonly ClusterNode[] = [
  node("0a0a0a01", "alpha", { self: true, serfPort: 7946 }),
  node("0a0a0b02", "beta", { rtt: 0.4321, serf: { name: "beta-0a0a0b02", status: "alive" } }),
  node("0a0a0c03", "gamma", {
    state: "gone",
    since: "2026-01-01T00:00:00.000Z",
    serf: { name: "gamma-0a0a0c03", status: "failed" },
  }),
  node("0a0a0d04", "twin", { serf: { name: "twin-0a0a0d04", status: "failed" }, vtep: parseIp("10.1.0.4") }),
  node("0a0a0e05", "twin", { state: "left" }),
];

let server: Server;
let provider: { nodes(): readonly ClusterNode[] } | undefined;

beforeEach(async () => {
  const { libnetwork } = await openFakeLibnetwork();
  provider = { nodes: () => nodes };
  const serve = (...args: Parameters<ReturnType<typeof createApi>>) =>
    createApi({
      controller: libnetwork,
      version: "9.9",
      log: () => undefined,
      ...(provider && { nodes: provider }),
    })(...args);
  server = createServer(serve);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});
afterEach(() => new Promise((resolve) => server.close(resolve)));

const dnet = async (...args: readonly string[]) => {
  let out = "";
  let err = "";
  const status = await main(["-H", `tcp://127.0.0.1:${(server.address() as AddressInfo).port}`, ...args], {
    env: {},
    stdout: (text) => (out += text),
    stderr: (text) => (err += text),
    version: "9.9",
    runDaemon: async () => 0,
  });
  return { status, out, err };
};
const words = (text: string) =>
  text
    .trimEnd()
    .split("\n")
    .map((line) => line.split(/ {2,}/));

describe("dnet node", () => {
  it("ls shows who is alive, how far away, and where serf says otherwise", async () => {
    expect(words((await dnet("node", "ls")).out)).toEqual([
      ["NODE ID", "NAME", "ADDRESS", "STATE", "RTT", "VERSION"],
      ["0a0a0a01 *", "alpha", "10.0.0.1", "alive", "0.1.0"],
      ["0a0a0b02", "beta", "10.0.0.1", "alive", "0.43 ms", "0.1.0"],
      ["0a0a0c03", "gamma", "10.0.0.1", "gone", "0.1.0"],
      ["0a0a0d04", "twin", "10.0.0.1", "alive (serf: failed)", "0.1.0"],
      ["0a0a0e05", "twin", "10.0.0.1", "left", "0.1.0"],
    ]);
    expect((await dnet("node", "ls", "-q")).out).toBe("0a0a0a01\n0a0a0b02\n0a0a0c03\n0a0a0d04\n0a0a0e05\n");
  });

  it("info takes a name, an id or its beginning, and nothing that fits several", async () => {
    expect((await dnet("node", "info", "gamma")).out).toBe(
      [
        "Node Id: 0a0a0c03\nName: gamma\nAddress: 10.0.0.1\nState: gone\nSince: 2026-01-01T00:00:00.000Z\n",
        "Version: 0.1.0\nSerf: gamma-0a0a0c03 failed\n",
      ].join(""),
    );
    expect((await dnet("node", "info", "0a0a0d")).out).toContain("VTEP: 10.1.0.4\n");
    expect(await dnet("node", "info", "twin")).toEqual({
      status: 1,
      out: "",
      err: "twin fits 2 nodes, 0a0a0d04 and 0a0a0e05: give an id\n",
    });
    expect((await dnet("node", "info", "0a0a")).err).toContain("fits 5 nodes");
    expect(await dnet("node", "info", "nosuch")).toEqual({ status: 1, out: "", err: "resource not found nosuch\n" });
    expect(JSON.parse((await dnet("node", "info", "beta", "--format", "json")).out)).toMatchObject({ rtt_ms: 0.432 });
  });

  it("without a cluster shows this node alone", async () => {
    provider = undefined;
    expect(JSON.parse((await dnet("node", "ls", "--format", "json")).out)).toMatchObject([
      { self: true, state: "alive", version: "9.9" },
    ]);
  });
});

describe("GET /nodes/{id}", () => {
  const get = (path: string) => fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`);

  it("answers one node, by its whole id only", async () => {
    expect(await (await get("/v1.19/nodes/0a0a0a01")).json()).toMatchObject({ name: "alpha", serf_port: 7946 });
    const refused = await get("/nodes/0a0a0a");
    expect([refused.status, await refused.text()]).toEqual([404, "Resource not found: Node\n"]);
  });
});
