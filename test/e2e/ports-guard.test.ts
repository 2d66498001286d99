import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { enterOwnHost, eventually, expectNothingLeft, run } from "../own-host.ts";
import { ok } from "./dnet.ts";
import { Outside } from "./outside.ts";
import { host, PortHost } from "./port-host.ts";
import { Connection } from "./port-peers.ts";

let lab: PortHost;

beforeAll(async () => {
  enterOwnHost();
  lab = new PortHost();
  await lab.connect();
});
afterAll(async () => {
  await lab.outside.close();
  expectNothingLeft();
});
afterEach(() => lab.sweep());

it("26: published ports are back after a flush of all rules, and what is established goes on", async () => {
  await lab.start();
  ok("network", "create", "web");
  await lab.run("c1", "web", ["-p", "8080:80"], [["tcp", 80]]);
  const connection = new Connection(lab.outside.pid, host, 8080);
  try {
    expect(await connection.greeting()).toBe(`c1 80 ${Outside.address}`);
    const table = /inet (dnet_[0-9a-f]{8}_ports)/.exec(run("nft", "list", "tables"))?.[1] ?? "";
    const before = run("nft", "-s", "list", "table", "inet", table);
    const back = () =>
      eventually("the table is as it was", () => {
        try {
          return run("nft", "-s", "list", "table", "inet", table) === before;
        } catch {
          return false;
        }
      });
    run("nft", "flush", "ruleset");
    await back();
    expect(await connection.echoes("after the flush")).toBe(true);
    run("nft", "delete", "element", "inet", table, "port_any4", "{ tcp . 8080 }");
    await back();
    run("nft", "delete", "table", "inet", table);
    await back();
    expect(lab.fromLan("tcp", 8080)).toBe(`c1 80 ${Outside.address}`);
    const told = ok("firewall", "explain", "8080");
    expect(told).toContain("port_any4 leads it to 172.18.0.2 port 80 of container c1");
  } finally {
    await connection.close();
  }
  await lab.removeAll();
});

it("routed networks: a published port is reached at the sandbox's own address, another port is not", async () => {
  await lab.start();
  ok(
    "network",
    "create",
    "-o",
    "com.docker.network.bridge.gateway_mode_ipv4=routed",
    "--subnet",
    "172.30.0.0/24",
    "web",
  );
  await lab.run(
    "c1",
    "web",
    ["-p", "8080:80"],
    [
      ["tcp", 80],
      ["tcp", 81],
    ],
  );
  const { outside } = lab;
  outside.exec("ip", "route", "add", "172.30.0.0/24", "via", "203.0.113.1");
  try {
    const greeting = (port: number) =>
      outside
        .exec(
          "timeout",
          port === 80 ? "15" : "3",
          "bash",
          "-c",
          `exec 3<>/dev/tcp/172.30.0.2/${port} && head -n 1 <&3 || echo closed`,
        )
        .trim();
    expect(greeting(80)).toBe(`c1 80 ${Outside.address}`);
    expect(() => greeting(81)).toThrow();
    ok("service", "detach", "c1", "c1.web");
    ok("service", "attach", "c1", "c1.web");
    expect(greeting(80)).toBe(`c1 80 ${Outside.address}`);
  } finally {
    outside.exec("ip", "route", "delete", "172.30.0.0/24");
  }
});
