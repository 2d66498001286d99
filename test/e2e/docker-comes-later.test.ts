import { afterAll, beforeAll, expect, it, vi } from "vitest";
import type { DiagnosisResource } from "../../src/api/resources.ts";
import { enterOwnHost, eventually, expectNothingLeft, run, shell } from "../own-host.ts";
import { dnet, ok } from "./dnet.ts";
import { DockerHost } from "./docker-host.ts";
import { addressOf, PortHost } from "./port-host.ts";
import { call } from "./port-peers.ts";

/** A host of ours on which the real Docker is started later: it takes the `docker0` that it finds, which is our default network's. */

// Two daemons that start and stop, on a machine that may be busy.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

const docker = new DockerHost();
const lan = new PortHost();

beforeAll(async () => {
  enterOwnHost();
  await lan.connect();
  await lan.serve(lan.outside.pid, "outside", [["tcp", 8000]]);
});
afterAll(async () => {
  await docker.close();
  await lan.sweep();
  await lan.outside.close();
  expectNothingLeft();
}, 120_000);

const codes = () =>
  (JSON.parse(dnet("doctor", "--format", "json").stdout) as DiagnosisResource).findings.map(({ code }) => code);
const bridges = () => run("ip", "-br", "link", "show", "type", "bridge").match(/^\S+/gm) ?? [];

it("a Docker that comes later takes docker0: the log and the doctor say so, and what they say helps", async () => {
  await lan.start();
  await lan.run("o1", "bridge", ["-p", "8080:80"], [["tcp", 80]]);
  const forward = () => shell("nft -s list chain ip filter FORWARD 2>/dev/null || true");
  expect([bridges(), codes(), forward()]).toEqual([["docker0"], [], ""]);

  await docker.start();
  docker.makeImage();
  docker.run("d1");
  // Why it matters.
  expect([bridges(), docker.address("d1")]).toEqual([["docker0"], addressOf("o1.bridge")]);
  docker.docker("rm", "-f", "d1");
  expect(codes()).toEqual(["shared-bridge"]);
  ok("container", "create", "o2");
  lan.attach("o2", "bridge");
  await eventually("it is in the log", () => lan.log.includes("docker0 carries our network bridge"), 20_000);
  expect(lan.log).toContain("dnet network rm bridge; restart the daemon");

  for (const name of ["o1", "o2"]) ok("container", "rm", name);
  ok("network", "rm", "bridge");
  await lan.restart("SIGTERM");
  await docker.stop();
  await docker.start();
  expect(bridges()).toHaveLength(2);
  expect(codes()).toEqual([]);
});

it("complaint 32: its FORWARD policy is as it was, because forwarding was on already, and ours needs no rule of its", async () => {
  expect(shell("nft list chain ip filter FORWARD")).toContain("policy accept");
  const { key } = await lan.run("o1", "bridge", ["-p", "8080:80"], [["tcp", 80]]);
  const theirs = docker.run("d1", "-p", "9080:80");
  await lan.serve(theirs, "docker", [["tcp", 80]]);
  expect({
    ours: lan.fromLan("tcp", 8080),
    theirs: lan.fromLan("tcp", 9080),
    out: [key, theirs].map((place) => call(place, "tcp", "203.0.113.2", 8000)),
    across: [call(theirs, "tcp", addressOf("o1.bridge"), 80), call(key, "tcp", "203.0.113.1", 9080)],
  }).toEqual({
    ours: "o1 80 203.0.113.2",
    theirs: "docker 80 203.0.113.2",
    out: ["outside 8000 203.0.113.1", "outside 8000 203.0.113.1"],
    across: ["timeout", "docker 80 172.17.0.1"],
  });
  expect(codes()).toEqual([]);
});

it("a host that starts anew, and we before Docker: docker0 is left to it", async () => {
  ok("container", "rm", "o1");
  ok("network", "rm", "bridge");
  await lan.daemon?.stop();
  docker.docker("rm", "-f", "d1");
  await docker.stop();
  shell("ip link delete docker0; nft flush ruleset; rm -f /run/docker.sock");
  await lan.start();
  expect(lan.log).toContain("docker0 is Docker's, which is on this host");
  await docker.start();
  expect(bridges()).toHaveLength(2);
  expect(docker.docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", "bridge")).not.toBe(
    /Subnet: (\S+)/.exec(ok("network", "info", "bridge"))?.[1],
  );
  ok("network", "rm", "bridge");
  expect(await lan.daemon?.stop()).toBe(0);
});
