import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { enterOwnHost, eventually, expectNothingLeft, inside, run, setResolvConf, sweep } from "../own-host.ts";
import { DaemonProcess, dnet, ok } from "./dnet.ts";
import { Outside } from "./outside.ts";

const tcp = ["-H", "tcp://127.0.0.1:4567"] as const;
const files = "/var/lib/docker/network/files";
let outside: Outside;
let asked: () => readonly string[];
let daemon: DaemonProcess | undefined;

beforeAll(async () => {
  enterOwnHost();
  outside = new Outside();
  await outside.connect();
  asked = await outside.serveNames();
});
afterAll(async () => {
  await outside.close();
  expectNothingLeft();
});
afterEach(async () => {
  if (!daemon) return;
  // A test that failed: what it left must not fail the next one.
  await daemon.stop("SIGKILL");
  daemon = undefined;
  sweep();
});

/** What a command shows, also while the store that the configuration names is away and it says so. */
const shown = (...args: readonly string[]): string => {
  const { status, stdout, stderr } = dnet(...args);
  if (status !== 0) throw new Error(`dnet ${args.join(" ")}: status ${status}\n${stdout}${stderr}`);
  return stdout;
};

/** Removes everything through the command line and stops the daemon; what is left then is a leak. */
const removeAll = async (running: DaemonProcess, host: readonly string[] = []) => {
  for (const { container_id } of JSON.parse(ok(...host, "container", "ls", "--format", "json")) as {
    container_id: string;
  }[])
    ok(...host, "container", "rm", container_id);
  for (const { id, type, name, network } of [
    ...(JSON.parse(shown(...host, "service", "ls", "--format", "json")) as never[]),
    ...(JSON.parse(shown(...host, "network", "ls", "--format", "json")) as never[]),
  ] as { id: string; type?: string; name: string; network?: string }[]) {
    if (network !== undefined) ok(...host, "service", "unpublish", `${name}.${network}`);
    else if (type !== "host" && type !== "null") ok(...host, "network", "rm", id);
  }
  expect(await running.stop()).toBe(0);
  daemon = undefined;
  expect(existsSync(files) ? readdirSync(files) : []).toEqual([]);
  const links = (JSON.parse(run("ip", "-j", "link")) as { ifname: string }[]).map(({ ifname }) => ifname);
  expect(links.sort()).toEqual(["lo", "wan0"]);
  expect(run("nft", "list", "tables")).toBe("");
  expect(existsSync("/run/docker/netns") ? readdirSync("/run/docker/netns") : []).toEqual([]);
};

/** In a sandbox, with its own resolv.conf and hosts, as a container runtime would run it. */
const inSandbox = (container: string, ...command: readonly string[]) => {
  const { id, key } = JSON.parse(ok("container", "info", container, "--format", "json")) as { id: string; key: string };
  return spawnSync(
    "unshare",
    [
      "--mount",
      "--propagation",
      "private",
      "sh",
      "-c",
      `mount --bind ${files}/${id}/resolv.conf /etc/resolv.conf && mount --bind ${files}/${id}/hosts /etc/hosts && exec nsenter --net=${key} "$@"`,
      "sh",
      ...command,
    ],
    { encoding: "utf8", timeout: 30_000 },
  );
};
const ping = (container: string, target: string) => inSandbox(container, "ping", "-c1", "-W2", target).status === 0;
const dig = (container: string, ...args: readonly string[]) =>
  inSandbox(container, "dig", "+tries=1", "+time=3", ...args).stdout.trim();

describe("the walk-through on one host", () => {
  it("1.2: a single daemon from the sample configuration, on TCP", async () => {
    daemon = await DaemonProcess.start("-D", "-H", "tcp://0.0.0.0:4567", "-c", "cmd/dnet/libnetwork-consul.toml");
    expect(daemon.log).toContain("has neither TLS nor authentication");
    const id = ok(...tcp, "network", "create", "test");
    expect(id).toMatch(/^[0-9a-f]{64}$/);
    const { status, stdout, stderr } = dnet(...tcp, "network", "ls");
    expect({ status, stdout }).toEqual({
      status: 0,
      stdout: expect.stringContaining(`${id.slice(0, 12)}        test                bridge              `) as string,
    });
    // Global scope needs the store that the configuration names.
    expect(stderr).toMatch(/^warning: the daemon cannot ask its store since /);
    const refused = dnet(...tcp, "network", "create", "-d", "test", "mh1");
    expect(refused).toMatchObject({ status: 1, stdout: "" });
    expect(refused.stderr).toMatch(/^error : /);
    const running = daemon;
    await eventually("the kernel operations are in the log", () => running.log.includes("ip link add name br-"));
    await removeAll(daemon, tcp);
  });

  it("1.3.3: services and containers on one node, with the original's outputs", async () => {
    setResolvConf("search example.test\nnameserver 203.0.113.2\n");
    daemon = await DaemonProcess.start();
    expect(statSync("/run/dnet.sock").mode & 0o777).toBe(0o660);
    ok("network", "create", "-d", "test", "multihost");
    const svc = ok("service", "publish", "svc.multihost");
    expect(ok("service", "ls").split("\n")).toEqual(
      [
        "SERVICE ID          NAME                NETWORK             CONTAINER           SANDBOX",
        `${svc.slice(0, 12)}        svc                 multihost                               `.trimEnd(),
      ].map((line) => expect.stringContaining(line) as string),
    );
    const sandbox = ok("container", "create", "container_0");
    expect(ok("service", "attach", "container_0", "svc.multihost")).toBe("");
    expect(ok("service", "ls")).toContain(
      `${svc.slice(0, 12)}        svc                 multihost           container_0         ${sandbox.slice(0, 12)}`,
    );
    ok("container", "create", "container_00");
    const second = dnet("service", "attach", "container_00", "svc.multihost");
    expect(second.status).toBe(1);
    expect(second.stderr).toMatch(/^error : another container is attached to the same network endpoint\n/);
    ok("service", "publish", "newsvc.multihost");
    ok("service", "attach", "container_00", "newsvc.multihost");
    expect(dnet("network", "rm", "multihost").stderr).toMatch(
      /^error : network multihost id [0-9a-f]{64} has active endpoints\n/,
    );
    expect(dnet("service", "unpublish", "svc.multihost").stderr).toMatch(
      /^error : service with name svc id [0-9a-f]{64} has active containers\n/,
    );
    await removeAll(daemon);
  });
});

describe("a bridge network", () => {
  it("carries sandboxes that reach each other by name and the outside through NAT, and nobody else", async () => {
    setResolvConf("search example.test\nnameserver 203.0.113.2\n");
    daemon = await DaemonProcess.start("-D");
    ok("network", "create", "web");
    ok("network", "create", "other");
    ok("network", "create", "--internal", "back");
    for (const name of ["c1", "c2"]) {
      ok("container", "create", name);
      ok("service", "publish", ...(name === "c2" ? ["--alias", "database"] : []), `svc-${name}.web`);
    }
    ok("service", "attach", "c1", "svc-c1.web");
    ok("service", "attach", "--alias", "c1:buddy", "c2", "svc-c2.web");
    ok("container", "create", "c3");
    ok("service", "publish", "svc-c3.other");
    ok("service", "attach", "c3", "svc-c3.other");
    ok("container", "create", "c4");
    ok("service", "publish", "svc-c4.back");
    ok("service", "attach", "c4", "svc-c4.back");
    ok("container", "create", "c5");
    ok("service", "publish", "svc-c5.back");
    ok("service", "attach", "c5", "svc-c5.back");

    // Names: services, containers, both kinds of alias, the network's zone; both ways.
    for (const target of ["c2", "svc-c2", "database", "svc-c2.web", "c2.web"])
      expect(ping("c1", target), target).toBe(true);
    for (const target of ["c1", "svc-c1", "buddy"]) expect(ping("c2", target), target).toBe(true);
    expect(dig("c1", "+short", "database")).toMatch(/^172\.18\.0\.3$/);
    expect(dig("c1", "+short", "+tcp", "-x", "172.18.0.3")).toBe("svc-c2.web.");
    expect(dig("c1", "c2", "AAAA")).toContain("status: NOERROR");
    expect(dig("c1", "nosuch.web")).toContain("status: NXDOMAIN");
    expect(dig("c1", "+short", "buddy")).toBe("198.51.100.7");
    expect(dig("c1", "+short", "outside.example")).toBe("198.51.100.7");
    await eventually("the question is seen outside", () => asked().includes("outside.example."));

    // Files at the documented places.
    const { id } = JSON.parse(ok("container", "info", "c1", "--format", "json")) as { id: string };
    expect(readFileSync(`${files}/${id}/hosts`, "utf8")).toMatch(/172\.18\.0\.2\tc1\n$/);
    expect(readFileSync(`${files}/${id}/resolv.conf`, "utf8")).toBe(
      "search example.test\nnameserver 127.0.0.11\noptions ndots:0\n",
    );

    // Outside, by NAT: it sees the host's address and has no way to ours.
    expect(ping("c1", Outside.address)).toBe(true);
    expect(spawnSync("nsenter", ["-t", String(outside.pid), "-n", "ip", "route", "get", "172.18.0.2"]).status).not.toBe(
      0,
    );
    outside.exec("ip", "route", "add", "172.16.0.0/12", "via", "203.0.113.1");
    const reaches = (address: string) =>
      spawnSync("nsenter", ["-t", String(outside.pid), "-n", "ping", "-c1", "-W1", address]).status === 0;
    expect(reaches("172.18.0.2")).toBe(false);
    outside.exec("ip", "route", "delete", "172.16.0.0/12");

    // Networks are apart.
    const addressOf = (service: string) =>
      (
        (JSON.parse(ok("service", "info", service, "--format", "json")) as { addresses: string[] }).addresses[0] ?? ""
      ).split("/")[0] ?? "";
    expect(ping("c1", addressOf("svc-c3.other"))).toBe(false);
    expect(dig("c1", "svc-c3")).not.toContain("172.19");

    // An internal network: its own, and nothing else; its questions stay inside (CVE-2024-29018).
    expect(ping("c4", "c5")).toBe(true);
    expect(ping("c4", Outside.address)).toBe(false);
    expect(ping("c4", addressOf("svc-c1.web"))).toBe(false);
    expect(dig("c4", "secret.example")).toContain("status: NXDOMAIN");
    expect(asked()).not.toContain("secret.example.");

    // Two networks in one sandbox: eth1, and the default route moves when the first one goes.
    ok("service", "publish", "two.other");
    ok("service", "attach", "c1", "two.other");
    const namespace = `/run/docker/netns/${id.slice(0, 12)}`;
    expect(inside(namespace, "ip", "route")).toContain("default via 172.18.0.1 dev eth0");
    expect(inside(namespace, "ip", "-br", "address", "show", "eth1")).toContain("172.19.0.3/16");
    ok("service", "detach", "c1", "svc-c1.web");
    expect(inside(namespace, "ip", "route")).toContain("default via 172.19.0.1 dev eth1");
    expect(ping("c1", "c3")).toBe(true);
    await removeAll(daemon);
  });

  it("39, moby 13481, moby 25407: carries IPv6 beside IPv4 where it is asked to, and none where not", async () => {
    setResolvConf("nameserver 203.0.113.2\n");
    daemon = await DaemonProcess.start();
    ok("network", "create", "--ipv6", "dual");
    ok(
      "network",
      "create",
      "--subnet",
      "10.60.0.0/24",
      "--subnet",
      "fd00:60::/64",
      "--ip-range",
      "10.60.0.128/25",
      "given",
    );
    ok("network", "create", "four");
    for (const name of ["c1", "c2"]) {
      ok("container", "create", name);
      for (const network of ["dual", "given", "four"]) {
        ok("service", "publish", `${name}-${network}.${network}`);
        ok("service", "attach", name, `${name}-${network}.${network}`);
      }
    }
    const six = dig("c1", "+short", "c2-dual", "AAAA");
    expect(six).toMatch(/^fd[0-9a-f]{2}:/);
    expect(dig("c1", "+short", "-x", six)).toBe("c2-dual.dual.");
    expect(inSandbox("c1", "ping", "-6", "-c1", "-W2", "c2-dual").status).toBe(0);
    expect(dig("c1", "+short", "c2-given", "A")).toBe("10.60.0.129");
    expect(ok("network", "info", "given")).toContain("Gateway: 10.60.0.1\n");
    expect(inSandbox("c1", "ping", "-6", "-c1", "-W2", "fd00:60::3").status).toBe(0);
    const { key } = JSON.parse(ok("container", "info", "c1", "--format", "json")) as { key: string };
    // CVE-2024-32473: not even a link-local address on an interface whose network has no IPv6.
    expect(inside(key, "ip", "-6", "address", "show", "dev", "eth2")).toBe("");
    expect(inside(key, "ip", "-6", "route")).toContain("default via");
    await removeAll(daemon);
  });

  it("4, moby 34660, moby 38160, moby 53089: goes on while the daemon is gone, and names are back after its start, by TERM and by KILL", async () => {
    setResolvConf("nameserver 203.0.113.2\n");
    daemon = await DaemonProcess.start();
    ok("network", "create", "web");
    const addresses: string[] = [];
    for (const name of ["c1", "c2"]) {
      ok("container", "create", name);
      ok("service", "publish", `${name}.web`);
      ok("service", "attach", name, `${name}.web`);
    }
    for (const { addresses: of } of JSON.parse(ok("service", "ls", "--format", "json")) as { addresses: string[] }[])
      addresses.push((of[0] ?? "").split("/")[0] ?? "");
    const { key } = JSON.parse(ok("container", "info", "c1", "--format", "json")) as { key: string };
    const before = inside(key, "ip", "-j", "address");
    for (const signal of ["SIGTERM", "SIGKILL"] as const) {
      await daemon.stop(signal);
      expect(spawnSync("nsenter", [`--net=${key}`, "ping", "-c1", "-W2", "172.18.0.3"]).status).toBe(0);
      daemon = await DaemonProcess.start();
      expect(ping("c1", "c2")).toBe(true);
      expect(inside(key, "ip", "-j", "address")).toBe(before);
    }
    await removeAll(daemon);
  });

  it("6, moby 31694: is gone with its host: after a reboot records of sandboxes go, networks come back, names are free", async () => {
    daemon = await DaemonProcess.start();
    ok("network", "create", "web");
    ok("container", "create", "c1");
    ok("service", "publish", "c1.web");
    ok("service", "attach", "c1", "c1.web");
    await daemon.stop("SIGKILL");
    // What a reboot takes: namespaces, links, rules.
    run("sh", "-c", "umount -l /run/docker/netns/*; rm /run/docker/netns/*");
    run(
      "sh",
      "-c",
      "for l in $(ip -br link show type bridge | cut -d' ' -f1); do ip link delete $l; done; nft flush ruleset",
    );
    daemon = await DaemonProcess.start();
    expect(ok("container", "ls").split("\n")).toHaveLength(1);
    expect(ok("service", "ls").split("\n")).toHaveLength(1);
    ok("container", "create", "c1");
    ok("service", "publish", "c1.web");
    ok("service", "attach", "c1", "c1.web");
    expect(ok("service", "info", "c1.web")).toContain("172.18.0.2/16");
    await removeAll(daemon);
  });
});

describe("the host's own stack", () => {
  it("is joined by host sandboxes only, at the path `default`", async () => {
    setResolvConf("nameserver 203.0.113.2\n");
    daemon = await DaemonProcess.start();
    ok("network", "create", "-d", "host", "hostnet");
    ok("container", "create", "--host", "h1");
    ok("service", "publish", "h1.hostnet");
    ok("service", "attach", "h1", "h1.hostnet");
    expect(inside("/run/docker/netns/default", "ip", "-br", "link")).toContain("wan0");
    ok("container", "create", "c1");
    ok("service", "publish", "c1.hostnet");
    expect(dnet("service", "attach", "c1", "c1.hostnet").status).toBe(1);
    expect(dnet("network", "rm", "hostnet").stderr).toContain('network of type "host" cannot be deleted');
    await removeAll(daemon);
    await eventually("the path is gone", () => !existsSync("/run/docker/netns/default"));
  });
});
