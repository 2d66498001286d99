import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { DiagnosisResource } from "../../src/api/resources.ts";
import { enterOwnHost, eventually, expectNothingLeft, run, shell } from "../own-host.ts";
import { dnet, ok } from "./dnet.ts";
import { DockerHost } from "./docker-host.ts";
import { addressOf, host, PortHost } from "./port-host.ts";
import { call } from "./port-peers.ts";

/**
 * A host with the real Docker on it, in its own directories, which are ours as well. Docker came first: it switched forwarding on, and set
 * the policy of the host's FORWARD chain to drop.
 */

// Two daemons that start and stop, on a machine that may be busy.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

const docker = new DockerHost();
const lan = new PortHost();
/** The process of Docker's container, on its default network; port 9080 leads to it. */
let theirs: number;
let before: string;
let pristine: string;
/** What the doctor told to do for our networks' sake. */
const advice: string[] = [];

beforeAll(async () => {
  enterOwnHost();
  await lan.connect();
  run("sysctl", "-qw", "net.ipv4.ip_forward=0");
  await docker.start();
  docker.makeImage();
  theirs = docker.run("d1", "-p", "9080:80");
  await lan.serve(theirs, "docker", [
    ["tcp", 80],
    ["tcp", 81],
  ]);
  before = docker.rules();
  pristine = before;
}, 120_000);
afterAll(async () => {
  await docker.close();
  await lan.sweep();
  await lan.outside.close();
  expectNothingLeft();
}, 120_000);

/** Docker's container is reached as Docker promises, and reaches the outside. */
const dockerWorks = async (): Promise<void> => {
  expect({
    lan: lan.fromLan("tcp", 9080),
    loopback: call(undefined, "tcp", "127.0.0.1", 9080),
    host: call(undefined, "tcp", docker.address("d1"), 80),
    out: call(theirs, "tcp", "203.0.113.2", 8000),
  }).toEqual({
    lan: "docker 80 203.0.113.2",
    loopback: expect.stringMatching(/^docker 80 /),
    host: "docker 80 172.17.0.1",
    out: `outside 8000 ${host}`,
  });
};

/** What the doctor finds, by its code. */
const findings = (code: string) => {
  const { findings: all } = JSON.parse(dnet("doctor", "--format", "json").stdout) as DiagnosisResource;
  return all.filter((finding) => finding.code === code);
};

const lines = (text: string): readonly string[] => text.split("\n").sort();

const warnings = () => lan.log.split("\n").filter((line) => / level=(warning|error) /.test(line));

describe("beside a Docker", () => {
  it("before us: Docker works", async () => {
    await lan.serve(lan.outside.pid, "outside", [["tcp", 8000]]);
    await dockerWorks();
    expect(shell("nft list chain ip filter FORWARD")).toContain("policy drop");
  });

  it("the default network does not take Docker's docker0, and pools keep clear of each other's", async () => {
    await lan.start();
    expect(warnings().join("\n")).toContain(
      "docker0 belongs to another program: the default network gets a bridge of its own name",
    );
    const subnet = (network: string) => /Subnet: (\S+)/.exec(ok("network", "info", network))?.[1] ?? "";
    expect(subnet("bridge")).toBe("172.18.0.0/16");
    docker.docker("network", "create", "theirs");
    const pool = docker.docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", "theirs");
    expect(pool).toBe("172.19.0.0/16");
    ok("network", "create", "web");
    expect(subnet("web")).toBe("172.20.0.0/16");
    docker.docker("network", "rm", "theirs");
    const refused = dnet("network", "create", "--subnet", "172.16.0.0/15", "taken");
    expect(refused.stderr).toBe(
      "error : subnet 172.16.0.0/15 is on this host already: docker0 has 172.17.0.1/16\nchoose another subnet, or none: then one is chosen that is free\n",
    );
    await dockerWorks();
  });

  it("its FORWARD policy drops our traffic: the log and the doctor say so, and what they say helps; internal networks need nothing", async () => {
    ok("network", "create", "--internal", "back");
    await lan.run("o1", "web", ["-p", "8080:80"], [["tcp", 80]]);
    const { key } = JSON.parse(ok("container", "info", "o1", "--format", "json")) as { key: string };
    expect(call(key, "tcp", "203.0.113.2", 8000)).toBe("timeout");
    expect(lan.fromLan("tcp", 8080)).toBe("timeout");
    await eventually(
      "it is in the log",
      () => lan.log.includes("chain ip filter FORWARD of another program drops"),
      20_000,
    );
    const found = findings("forward-dropped");
    expect(found.map(({ subject }) => subject).sort()).toEqual(["network bridge", "network web"]);
    for (const { remedy } of found) {
      shell(remedy);
      advice.push(remedy);
    }
    expect(findings("forward-dropped")).toEqual([]);
    expect(call(key, "tcp", "203.0.113.2", 8000)).toBe(`outside 8000 ${host}`);
    expect(lan.fromLan("tcp", 8080)).toBe("o1 80 203.0.113.2");
    expect(call(undefined, "tcp", "127.0.0.1", 8080)).toMatch(/^o1 80 /);
    before = docker.rules();
    await dockerWorks();
  });

  it("neither reaches the other's containers, but by published ports", async () => {
    const { key } = JSON.parse(ok("container", "info", "o1", "--format", "json")) as { key: string };
    const [ours, dockers] = [addressOf("o1.web"), docker.address("d1")];
    expect({
      toOurs: call(theirs, "tcp", ours, 80),
      toTheirs: call(key, "tcp", dockers, 81),
      // Each side's NAT gives what leaves its networks the host's address on the way.
      toOurPort: call(theirs, "tcp", host, 8080),
      toTheirPort: call(key, "tcp", host, 9080),
    }).toEqual({
      toOurs: "timeout",
      toTheirs: "timeout",
      toOurPort: `o1 80 ${ours.replace(/\d+$/, "1")}`,
      toTheirPort: "docker 80 172.17.0.1",
    });
  });

  it("a port that one has the other does not get", async () => {
    ok("container", "create", "-p", "9080:80", "o2");
    ok("service", "publish", "o2.web");
    const refused = dnet("service", "attach", "o2", "o2.web");
    expect(refused.stderr).toMatch(
      /^error : failed to bind host port 0\.0\.0\.0:9080\/tcp: address already in use\ndocker-proxy \(process \d+\) has it/,
    );
    ok("container", "rm", "o2");
    ok("service", "unpublish", "o2.web");
    expect(docker.refusal("run", "-d", "--name", "d2", "-p", "8080:80", "tiny", "/bin/busybox", "sleep", "9")).toMatch(
      /8080.*(address already in use|port is already allocated)/,
    );
    docker.docker("rm", "-f", "d2");
    await dockerWorks();
    expect(lan.fromLan("tcp", 8080)).toBe("o1 80 203.0.113.2");
  });
});

/** Our tables but that of the daemon's own, without counters. */
const ours = () =>
  run("nft", "list", "tables")
    .split("\n")
    .filter((table) => /^table inet dnet_[0-9a-f]{8}(_ports)?$/.test(table))
    .sort()
    .map((table) => run("nft", "-s", "list", ...table.split(" ")))
    .join("");

describe("rules", () => {
  it("of ours are put back when they are flushed, and Docker's are not touched by it", async () => {
    const whole = ours();
    expect(whole.match(/^table /gm)).toHaveLength(2);
    shell("nft list tables | sed -n 's/^table \\(inet dnet_[0-9a-f]*\\)$/delete table \\1/p' | nft -f -");
    await eventually("ours are back", () => ours() === whole);
    expect(docker.rules()).toBe(before);
    await dockerWorks();
    expect(lan.fromLan("tcp", 8080)).toBe("o1 80 203.0.113.2");
  });

  it.each(["SIGTERM", "SIGKILL"] as const)(
    "of Docker, and its containers, do not notice our restart after %s",
    async (signal) => {
      const whole = ours();
      await lan.daemon?.stop(signal);
      await dockerWorks();
      await lan.start();
      expect(docker.rules()).toBe(before);
      expect(ours()).toBe(whole);
      await dockerWorks();
      expect(lan.fromLan("tcp", 8080)).toBe("o1 80 203.0.113.2");
    },
  );

  it("of ours, and our containers, do not notice Docker's restart", async () => {
    const whole = ours();
    const { length } = warnings();
    await docker.stop();
    expect(lan.fromLan("tcp", 8080)).toBe("o1 80 203.0.113.2");
    await docker.start();
    await eventually("Docker's port is there", () => lan.fromLan("tcp", 9080).startsWith("docker"));
    // It makes its chains anew, in another order.
    expect(lines(docker.rules())).toEqual(lines(before));
    before = docker.rules();
    expect(ours()).toBe(whole);
    expect(warnings().slice(length)).toEqual([]);
    await dockerWorks();
    expect(lan.fromLan("tcp", 8080)).toBe("o1 80 203.0.113.2");
  });

  it("of each go with what they are for, and the other's stay", async () => {
    const dockers = () =>
      run("ip", "-br", "-d", "link", "show", "type", "bridge") + run("ip", "-br", "address", "show", "docker0");
    for (const id of ok("container", "ls", "-q").split("\n").filter(Boolean)) ok("container", "rm", id);
    for (const id of ok("network", "ls", "-q").split("\n").filter(Boolean)) ok("network", "rm", id);
    expect(await lan.daemon?.stop()).toBe(0);
    expect(docker.rules()).toBe(before);
    expect(run("nft", "list", "tables")).toBe("table ip nat\ntable ip filter\n");
    expect(dockers().match(/^\S+/gm)).toEqual(["docker0", "docker0"]);
    await dockerWorks();
    for (const commands of advice) shell(commands.replaceAll(" -I ", " -D "));
    expect(lines(docker.rules())).toEqual(lines(pristine));
  });
});
