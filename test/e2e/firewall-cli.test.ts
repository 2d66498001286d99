import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { FirewallResource } from "../../src/api/resources.ts";
import { option } from "../../src/drivers/options.ts";
import { enterOwnHost, eventually, expectNothingLeft, inside, run, shell, sweep } from "../own-host.ts";
import { DaemonProcess, dnet, ok } from "./dnet.ts";

/** The daemon and its command line: what a person sees of the firewall and of a network's options. */

let daemon: DaemonProcess;

beforeAll(async () => {
  enterOwnHost();
  daemon = await DaemonProcess.start();
});
afterEach(() => {
  for (const id of ok("network", "ls", "-q").split("\n").filter(Boolean)) ok("network", "rm", id);
});
afterAll(async () => {
  expect(await daemon.stop()).toBe(0);
  // Rules go with the last network, and this daemon's default network was removed.
  sweep();
  expectNothingLeft();
});

describe("dnet firewall explain", () => {
  it("shows for a network its elements, and only rules that can decide about its packets, each with its reason", () => {
    ok("network", "create", "--subnet", "10.60.0.0/24", "web");
    const shown = ok("firewall", "explain", "web");
    expect(shown).toMatch(
      /^10\.60\.0\.0\/24: mode nat; traffic leaves with this host's address; from outside only published ports/,
    );
    expect(shown).toContain(
      "closed4      10.60.0.0/24\n      # subnets that nobody outside reaches by their addresses, IPv4",
    );
    expect(shown).toContain("chain forward (type filter hook forward priority filter)");
    expect(shown).toContain("# nobody routes through this host to a sandbox's address (moby 49325)");
    expect(shown).not.toContain("internal networks");
    // What it shows is what the kernel has.
    const { rules, elements, table } = JSON.parse(
      ok("firewall", "explain", "web", "--format", "json"),
    ) as FirewallResource;
    const listing = shell(`nft -s list table ${table}`);
    for (const { rule, reason } of rules)
      expect(listing).toContain(`${rule.replace("counter drop", "counter drop")} comment "${reason}"`);
    for (const { element } of elements) expect(listing).toContain(element);
  });

  it("shows for an internal network that it is shut, with its options what they do", () => {
    ok("network", "create", "--internal", "back");
    expect(ok("firewall", "explain", "back")).toContain("# nothing reaches internal networks");
    ok("network", "create", "-o", `${option.gatewayModeIpv4}=routed,${option.antiSpoofing}=true`, "lan");
    const shown = ok("firewall", "explain", "lan");
    expect(shown).toContain("# of routed networks only published ports are reached");
    expect(shown).toContain("its sandboxes cannot forge addresses");
    expect(shown).not.toContain("masquerade4");
  });

  it("shows for a port that nobody publishes whose it is, and refuses what is no port", () => {
    expect(ok("firewall", "explain", "8080/udp")).toBe(
      "no container publishes port 8080/udp: these rules do not filter what is sent to it\nno program of this host has it, as far as can be told",
    );
    expect(dnet("firewall", "explain", "99999")).toMatchObject({
      status: 1,
      stderr: "error : invalid port: 99999 is not between 1 and 65535\n",
    });
    expect(dnet("firewall", "explain", "nosuch")).toMatchObject({
      status: 1,
      stderr: "resource not found nosuch\n",
    });
    expect(dnet("firewall", "explian", "web").stderr).toContain("Did you mean 'dnet firewall explain'?");
  });

  it("knows a network whose name is a number", () => {
    ok("network", "create", "8080");
    expect(ok("firewall", "explain", "8080")).toContain("mode nat");
  });
});

describe("options of a network", () => {
  it("that are unknown are refused by name, with what may have been meant", () => {
    const refused = dnet("network", "create", "-o", "com.docker.network.bridge.gateway_mode_ipv=nat", "web");
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(
      /^error : unknown option "com\.docker\.network\.bridge\.gateway_mode_ipv" for driver bridge\ndid you mean com\.docker\.network\.bridge\.gateway_mode_ipv4\?/,
    );
    expect(dnet("network", "create", "-o", `${option.gatewayModeIpv4}=isolated`, "web").stderr).toContain(
      "gateway mode isolated is for internal networks only",
    );
  });

  it("name the sandbox's interface, the old names too", () => {
    ok("network", "create", "-o", "ContainerIfacePrefix=lan,Mtu=1400", "web");
    expect(ok("network", "info", "web")).toContain(`${option.ifacePrefix}=lan\n`);
    ok("container", "create", "c1");
    ok("service", "publish", "c1.web");
    ok("service", "attach", "c1", "c1.web");
    const { key } = JSON.parse(ok("container", "info", "c1", "--format", "json")) as { key: string };
    expect(inside(key, "ip", "-br", "link", "show", "lan0")).toContain("lan0@");
    expect(inside(key, "ip", "link", "show", "lan0")).toContain("mtu 1400");
    ok("container", "rm", "c1");
  });

  it("--subnet, --gateway, --ip-range and --aux-address come for each family, and several for one", () => {
    const flags = [
      ["--subnet", "10.61.0.0/24", "--subnet", "fd00:61::/64", "--subnet", "10.62.0.0/24"],
      ["--gateway", "10.61.0.254", "--gateway", "fd00:61::ff", "--gateway", "10.62.0.9"],
      ["--ip-range", "10.61.0.128/25", "--ip-range", "fd00:61::1000/120"],
      ["--aux-address", "router=10.61.0.128,printer=fd00:61::1001", "--aux-address", "nas=10.62.0.1"],
    ].flat();
    const id = ok("network", "create", ...flags, "many");
    const shown = ok("network", "info", "many");
    for (const gateway of ["10.61.0.254", "fd00:61::ff", "10.62.0.9"]) expect(shown).toContain(`Gateway: ${gateway}`);
    const bridge = run("ip", "-br", "address", "show", `br-${id.slice(0, 12)}`);
    for (const address of ["10.61.0.254/24", "fd00:61::ff/64", "10.62.0.9/24"]) expect(bridge).toContain(address);
    ok("service", "publish", "one.many");
    const { addresses } = JSON.parse(ok("service", "info", "one.many", "--format", "json")) as { addresses: string[] };
    expect(addresses).toEqual(["10.61.0.129/24", "fd00:61::1000/64"]);
    ok("service", "unpublish", "one.many");
    // A gateway and a range for the second subnet only.
    const second = ["--gateway", "10.65.0.9", "--ip-range", "10.65.0.128/25"];
    ok("network", "create", "--subnet", "10.64.0.0/24", "--subnet", "10.65.0.0/24", ...second, "second");
    expect(ok("network", "info", "second")).toContain(
      "Subnet: 10.65.0.0/24 (endpoints from 10.65.0.128/25)\nGateway: 10.65.0.9",
    );
    expect(
      dnet("network", "create", "--subnet", "10.63.0.0/24", "--aux-address", "x=10.99.0.1", "bad").stderr,
    ).toContain("x=10.99.0.1 is in no subnet of the network");
  });
});

it("--ipv4=false makes a network of IPv6 alone, and needs IPv6", () => {
  ok("network", "create", "--ipv4=false", "--ipv6", "six");
  const shown = ok("network", "info", "six");
  expect(shown.match(/Subnet: /g)).toHaveLength(1);
  expect(shown).toMatch(/Subnet: fd/);
  expect(dnet("network", "create", "--ipv4=false", "none").stderr).toMatch(
    /^error : invalid network: without IPv4 it needs IPv6, and no IPv4 subnet\n/,
  );
  expect(dnet("network", "create", "--ipv4=false", "--ipv6", "--subnet", "10.66.0.0/24", "none").status).toBe(1);
});

describe("the daemon", () => {
  it("says what it found, what it expected, who did it and what it did, when rules are changed", async () => {
    ok("network", "create", "web");
    shell("nft flush ruleset");
    await eventually("it is in the log", () => /found no table inet dnet_[0-9a-f]{8} /.test(daemon.log));
    expect(daemon.log).toMatch(
      /level=warning msg="found no table .*\(changed by nft, process \d+\), expected ours with 1 network: replaced, in \d+ ms"/,
    );
  });

  it("33: refuses a network that it cannot protect, and leaves nothing of it", async () => {
    const before = run("ip", "-br", "link");
    expect(await daemon.stop()).toBe(0);
    // An nft that can do everything but add elements.
    shell(
      `mkdir -p /run/broken && printf '%s\\n' '#!/bin/sh' 'script=$(cat)' 'case "$script" in *"add element"*) echo "Error: no" >&2; exit 1;; esac' 'printf "%s\\n" "$script" | exec /usr/sbin/nft "$@"' > /run/broken/nft && chmod +x /run/broken/nft`,
    );
    const { PATH } = process.env;
    process.env.PATH = `/run/broken:${PATH}`;
    daemon = await DaemonProcess.start();
    process.env.PATH = PATH;
    const refused = dnet("network", "create", "open");
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(/^error : nft .*: no/);
    expect(ok("network", "ls")).not.toContain("open");
    expect(run("ip", "-br", "link")).toBe(before);
    expect(await daemon.stop()).toBe(0);
    daemon = await DaemonProcess.start();
  });
});
