import { createServer, type Server } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { FirewallResource } from "../../src/api/resources.ts";
import { option } from "../../src/drivers/options.ts";
import { enterOwnHost, expectNothingLeft, run } from "../own-host.ts";
import { dnet, ok } from "./dnet.ts";
import { addressOf, host, host6, PortHost } from "./port-host.ts";

/** `dnet firewall explain PORT`: what it says is what the kernel has, whoever has the port. */

const lab = new PortHost();
let other: Server;
let [four, six] = ["", ""];

beforeAll(async () => {
  enterOwnHost();
  await lab.connect();
  await lab.start();
  ok("network", "create", "--ipv6", "web");
  ok("network", "create", "-o", `${option.gatewayModeIpv4}=routed`, "lan");
  const mappings = [
    "8080:80",
    "127.0.0.1:8081:81",
    "9000-9010:9000-9010",
    "9100-9102:91-93",
    `${host}:5353:53/udp`,
    `[${host6}]:8090:90`,
  ];
  await lab.run(
    "c1",
    "web",
    mappings.flatMap((mapping) => ["-p", mapping]),
    [],
  );
  await lab.run("c2", "lan", ["-p", "8070:70"], []);
  ok("container", "create", "-p", "8060-8065:60", "c3");
  [four, six] = [addressOf("c1.web"), addressOf("c1.web", 6)];
  other = createServer().listen(7777, "127.0.0.1");
  await new Promise((resolve) => other.once("listening", resolve));
});
afterAll(async () => {
  await new Promise((resolve) => other.close(resolve));
  await lab.removeAll();
  await lab.outside.close();
  expectNothingLeft();
});

const shown = (port: string) => ok("firewall", "explain", port);
const told = (port: string) => JSON.parse(ok("firewall", "explain", port, "--format", "json")) as FirewallResource;
const byNat =
  "clients outside and in containers are led on by NAT, and seen with their own addresses; those in the same network with the host's address on it";
const byDaemon = "clients on the loopback are served by the daemon, and seen with the host's address";

describe("a port that a container publishes", () => {
  it.each([
    [
      "of every address",
      "8080",
      () => [
        `port 8080/tcp of every address of this host leads to container c1, port 80 of ${four} and ${six}`,
        byNat,
        byDaemon,
      ],
    ],
    [
      "of 127.0.0.1",
      "8081",
      () => [
        `port 8081/tcp of 127.0.0.1 leads to container c1, port 81 of ${four} and ${six}`,
        "programs of this host only: nobody else's packets are led on",
        byDaemon,
      ],
    ],
    [
      "in a range",
      "9005/tcp",
      () => [
        `port 9005/tcp of every address of this host leads to container c1, port 9005 of ${four} and ${six}`,
        byNat,
        byDaemon,
      ],
    ],
    [
      "in a range that leads to other numbers",
      "9101",
      () => [
        `port 9101/tcp of every address of this host leads to container c1, port 92 of ${four} and ${six}`,
        byNat,
        byDaemon,
      ],
    ],
    [
      "of one address, UDP",
      "5353/udp",
      () => [`port 5353/udp of ${host} leads to container c1, port 53 of ${four}`, byNat],
    ],
    [
      "of one IPv6 address",
      "8090",
      () => [`port 8090/tcp of ${host6} leads to container c1, port 90 of ${six}`, byNat],
    ],
    [
      "of a routed network",
      "8070",
      () => [
        `port 8070/tcp of every address of this host leads to container c2, port 70 of ${addressOf("c2.lan")}`,
        byNat,
        byDaemon,
        "the network is routed: the port is reached at the container's own address, too",
      ],
    ],
  ] as const)("%s: who, where, and who reaches it", (_what, port, summary) => {
    expect(told(port).summary).toEqual(summary());
    expect(shown(port).startsWith(`${summary().join("\n")}\n`)).toBe(true);
  });

  it.each(["8080", "9005", "9101", "5353/udp", "8090", "8070"])(
    "%s: its rules and elements are those of the kernel, in the order of the packet's way",
    (port) => {
      const { rules, elements, tables = [], table = "" } = told(port);
      expect(tables).toHaveLength(1);
      const listing = [...tables, table].map((name) => run("nft", "-s", "list", "table", ...name.split(" "))).join("");
      for (const { rule, chain } of rules) if (chain !== "relay") expect(listing).toContain(`${rule} comment "`);
      expect(elements.length).toBeGreaterThan(1);
      // nft writes the names of well-known ports as numbers, and networks as we do.
      for (const { element } of elements) expect(listing).toContain(element);
      const order = ["prerouting", "output", "publish4", "publish6", "forward", "published", "postrouting", "relay"];
      const places = rules.map(({ chain }) => order.indexOf(chain));
      expect(places).toEqual([...places].sort((a, b) => a - b));
      expect(rules.filter(({ rule }) => rule === "ct status dnat accept")).toHaveLength(1);
      expect(rules.some(({ rule }) => rule.includes("@reachable"))).toBe(port === "8070");
      const text = shown(port);
      expect(text).toContain(`In the sets of table ${tables[0]}:`);
      expect(text).toContain(`The whole: nft list table ${tables[0]}; nft list table ${table}`);
      expect(text.includes("chain publish6")).toBe(!["5353/udp", "8070"].includes(port));
      expect(text.includes("chain publish4")).toBe(port !== "8090");
    },
  );

  it("of 127.0.0.1 is in no rule", () => {
    expect(shown("8081")).toMatch(
      /Rules .*:\n {2}chain relay\n {4}the daemon listens: 127\.0\.0\.1:8081->81\/tcp\n {6}# .*container c1$/,
    );
  });
});

describe("a port that no container publishes", () => {
  it("but another program has: the program", () => {
    expect(shown("7777")).toBe(
      `no container publishes port 7777/tcp: these rules do not filter what is sent to it\nnode (process ${process.pid}) has it`,
    );
    expect(told("7777")).toMatchObject({ backend: "nftables", rules: [], elements: [] });
  });

  it("nor any program, the same port of another protocol too", () => {
    const nobody = (port: string) =>
      `no container publishes port ${port}: these rules do not filter what is sent to it\nno program of this host has it, as far as can be told`;
    expect(shown("7778")).toBe(nobody("7778/tcp"));
    expect(shown("8080/udp")).toBe(nobody("8080/udp"));
    expect(shown("8080/sctp")).toBe(nobody("8080/sctp"));
  });

  it("yet: the container that asks for it, and when it gets it", () => {
    expect(shown("8063")).toContain(
      "container c3 asks for it, and gets it when it is attached to a network that lets ports in",
    );
    lab.attach("c3", "web");
    expect(shown("8060")).toMatch(/^port 8060\/tcp of every address of this host leads to container c3, port 60 of /);
    expect(shown("8063")).not.toContain("c3");
  });
});

it("what is no port is refused", () => {
  for (const port of ["0", "65536", "99999"]) {
    expect(dnet("firewall", "explain", port).stderr).toBe(`error : invalid port: ${port} is not between 1 and 65535\n`);
  }
  expect(dnet("firewall", "explain", "80/icmp")).toMatchObject({ status: 1 });
});
