import { writeFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { enterOwnHost, eventually, expectNothingLeft, inside, run, shell, sweep } from "../own-host.ts";
import { DaemonProcess, dnet, ok } from "./dnet.ts";

let daemon: DaemonProcess | undefined;

beforeAll(() => {
  enterOwnHost();
  // What is taken away is put back by hand.
  writeFileSync("/run/libnetwork.toml", "[daemon]\nrepair = 0\n");
});
afterEach(async () => {
  await daemon?.stop("SIGKILL");
  sweep();
});
afterAll(() => expectNothingLeft());

const keyOf = (container: string): string =>
  (JSON.parse(ok("container", "info", container, "--format", "json")) as { key: string }).key;

describe("dnet explain and dnet trace", () => {
  it("say what there is and where packets go, on one host", async () => {
    daemon = await DaemonProcess.start("-c", "/run/libnetwork.toml");
    ok("network", "create", "--subnet", "10.50.0.0/24", "-o", "com.docker.network.bridge.name=web0", "web");
    for (const name of ["c1", "c2"]) {
      ok("container", "create", name);
      ok("service", "publish", `${name}.web`);
      ok("service", "attach", name, `${name}.web`);
    }
    const network = ok("explain", "network", "web");
    expect(network).toContain("# bridge web0 on the host\nip link add name web0 ");
    expect(network).toMatch(/^ip address add 10\.50\.0\.1\/24 .*dev web0$/m);
    const service = ok("explain", "service", "c1.web");
    expect(service).toMatch(
      /^# veth pair: eth0 in namespace \w{12}, and veth\w{11} \(port of bridge web0\) on the host$/m,
    );
    const sandbox = ok("explain", "container", "c1");
    expect(sandbox).toContain(`# namespace ${keyOf("c1")}\n`);
    expect(sandbox).toContain(service);
    expect(JSON.parse(ok("explain", "network", "--format", "json", "web"))).toMatchObject({ omitted: 0 });
    expect(dnet("explain", "network", "nosuch")).toMatchObject({ status: 1, stderr: "resource not found nosuch\n" });

    const way = ok("trace", "--ping", "c1", "c2.web");
    expect(way).toMatch(
      /^trace from container c1 to 10\.50\.0\.3\n {2}1 {2}container c1 +route by eth0: it is on the link, sent from 10\.50\.0\.2\n/,
    );
    expect(way).toMatch(/eth0 has 10\.50\.0\.3: the packet has arrived\n/);
    expect(way).toMatch(/ping: 3 of 3 answered, [\d.]+ ms$/);

    inside(keyOf("c2"), "ip", "link", "set", "eth0", "down");
    const lost = dnet("trace", "c1", "10.50.0.3");
    expect(lost.status).toBe(1);
    expect(lost.stdout).toContain("lost: link eth0 of container c2 is down\n");
    expect(dnet("trace", "c1", "no;such").stderr).toMatch(/^error : invalid destination: "no;such" is no address/);
    expect(dnet("trace", "c1").stderr).toContain("See 'dnet trace --help'.");
    expect(ok("trace", "--help")).toContain("Usage: dnet trace [OPTIONS] CONTAINER DESTINATION");
    expect(ok("--help")).toMatch(/\n {3}explain\t.*(\n.*)*\n {3}trace\t/);
    for (const name of ["c1", "c2"]) ok("container", "rm", name);
    ok("network", "rm", "web");
    expect(await daemon.stop()).toBe(0);
  });

  it("print commands that make the same network", async () => {
    daemon = await DaemonProcess.start("-c", "/run/libnetwork.toml");
    ok("network", "create", "--subnet", "10.50.0.0/24", "-o", "com.docker.network.bridge.name=web0", "web");
    ok("container", "create", "c1");
    ok("service", "publish", "c1.web");
    ok("service", "attach", "c1", "c1.web");
    // The packet filter's elements belong into the daemon's table, which stays.
    const explained = JSON.parse(ok("explain", "network", "--format", "json", "web")) as {
      operations: { operation: string; command: string }[];
    };
    const script = explained.operations
      .filter(({ operation }) => operation !== "nft.apply")
      .map(({ command }) => command);
    const before = run("ip", "-4", "-br", "address", "show", "dev", "web0");
    run("ip", "link", "delete", "web0");
    shell(script.join("\n"));
    await eventually(
      "the same address",
      () => run("ip", "-4", "-br", "address", "show", "dev", "web0").split(/\s+/)[2] === before.split(/\s+/)[2],
    );
    const sandbox = ok("explain", "service", "c1.web");
    inside(keyOf("c1"), "ip", "link", "delete", "eth0");
    shell(sandbox);
    expect(ok("trace", "--ping", "c1", "10.50.0.1")).toMatch(/ping: 3 of 3 answered/);
    ok("container", "rm", "c1");
    ok("network", "rm", "web");
    expect(await daemon.stop()).toBe(0);
  });
});
