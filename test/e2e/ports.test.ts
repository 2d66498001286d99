import type { ChildProcess } from "node:child_process";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { SandboxResource } from "../../src/api/resources.ts";
import { enterOwnHost, expectNothingLeft, run, sweep } from "../own-host.ts";
import { DaemonProcess, dnet, ok } from "./dnet.ts";
import { Outside } from "./outside.ts";
import { call, serve, stop } from "./port-peers.ts";

const host = "203.0.113.1";
let outside: Outside;
let daemon: DaemonProcess | undefined;
const servers: ChildProcess[] = [];

beforeAll(async () => {
  enterOwnHost();
  outside = new Outside();
  await outside.connect();
});
afterAll(async () => {
  await outside.close();
  expectNothingLeft();
});
afterEach(async () => {
  for (const server of servers.splice(0)) await stop(server);
  if (!daemon) return;
  await daemon.stop("SIGKILL");
  daemon = undefined;
  sweep();
});

const infoOf = (container: string) =>
  JSON.parse(ok("container", "info", container, "--format", "json")) as SandboxResource;

/** A container with ports, attached to a network, with a server inside. */
const publish = async (
  container: string,
  network: string,
  flags: readonly string[],
  ports: readonly (readonly ["tcp" | "udp", number])[],
): Promise<SandboxResource> => {
  ok("container", "create", ...flags, container);
  ok("service", "publish", `${container}.${network}`);
  ok("service", "attach", container, `${container}.${network}`);
  const info = infoOf(container);
  servers.push(await serve(info.key, container, ports));
  return info;
};

/** Removes everything through the command line; what is left then is a leak. */
const removeAll = async (networks: readonly string[]) => {
  for (const { container_id } of JSON.parse(ok("container", "ls", "--format", "json")) as SandboxResource[])
    ok("container", "rm", container_id);
  expect(run("nft", "list", "tables")).not.toContain("_ports");
  for (const network of [...networks, "bridge"]) ok("network", "rm", network);
  expect(await daemon?.stop()).toBe(0);
  daemon = undefined;
  expect(run("nft", "list", "tables")).toBe("");
};

describe("a published port", () => {
  it("is reached from outside, which keeps its source address (36; CVE-2021-20199)", async () => {
    daemon = await DaemonProcess.start("-D");
    ok("network", "create", "web");
    await publish("c1", "web", ["-p", "8080:80"], [["tcp", 80]]);
    expect(call(outside.pid, "tcp", host, 8080)).toBe(`c1 80 ${Outside.address}`);
    expect(infoOf("c1").published_ports?.map(({ text }) => text)).toEqual(["0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"]);
    expect(ok("container", "ls")).toContain("0.0.0.0:8080->80/tcp");
    expect(dnet("container", "create", "-p", "x:80", "c2").stderr).toContain('invalid host port: "x"');
    await removeAll(["web"]);
    expect(call(outside.pid, "tcp", host, 8080)).toBe("ECONNREFUSED");
  });
});
