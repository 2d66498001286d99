import { execFileSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Rest } from "../../bench/rest.ts";
import type { SandboxResource } from "../../src/api/resources.ts";
import { enterOwnHost, expectNothingLeft, run, shell } from "../own-host.ts";
import { dnet, ok } from "./dnet.ts";
import { Outside } from "./outside.ts";
import { addressOf, host, host6, infoOf, outside6, PortHost, shownPorts } from "./port-host.ts";
import { bindable, call, stop } from "./port-peers.ts";

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

describe("published ports", () => {
  it("36, CVE-2021-20199: are reached from outside, which keeps its source address: TCP, UDP, ranges, both families", async () => {
    await lab.start();
    ok("network", "create", "--ipv6", "web");
    const flags = ["-p", "8080:80", "-p", "9000-9002:9000-9002", "-p", "7000-7001:80-81", "-p", "5353:53/udp"];
    await lab.run("c1", "web", flags, [
      ["tcp", 80],
      ["tcp", 81],
      ["tcp", 9000],
      ["tcp", 9002],
      ["udp", 53],
    ]);
    for (const [address, seen] of [
      [host, Outside.address],
      [host6, outside6],
    ] as const) {
      for (const [port, inner] of [
        [8080, 80],
        [9000, 9000],
        [9002, 9002],
        [7000, 80],
        [7001, 81],
      ] as const)
        expect(lab.fromLan("tcp", port, {}, address), `${address} ${port}`).toBe(`c1 ${inner} ${seen}`);
      expect(lab.fromLan("udp", 5353, { text: "x" }, address), address).toBe(`c1 53 ${seen} x`);
      // Nobody serves the middle of the range: the sandbox refuses, not the host.
      expect(lab.fromLan("tcp", 9001, {}, address)).toBe("ECONNREFUSED");
    }
    expect(shownPorts("c1")).toEqual([
      "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
      "0.0.0.0:9000-9002->9000-9002/tcp, [::]:9000-9002->9000-9002/tcp",
      "0.0.0.0:7000-7001->80-81/tcp, [::]:7000-7001->80-81/tcp",
      "0.0.0.0:5353->53/udp, [::]:5353->53/udp",
    ]);
    expect(ok("container", "ls")).toContain("0.0.0.0:8080->80/tcp");
    expect(ok("container", "info", "c1")).toContain("Ports:\n\t0.0.0.0:8080->80/tcp, [::]:8080->80/tcp\n");
    await lab.removeAll();
    expect(lab.fromLan("tcp", 8080)).toBe("ECONNREFUSED");
  });

  it("are chosen from the host's ephemeral ports where none is given, the same for both families, and kept", async () => {
    await lab.start();
    shell("echo 40000 40003 > /proc/sys/net/ipv4/ip_local_port_range");
    ok("network", "create", "--ipv6", "web");
    await lab.run(
      "c1",
      "web",
      ["-p", "80", "--expose", "81", "--expose", "53/udp", "-P"],
      [
        ["tcp", 80],
        ["tcp", 81],
        ["udp", 53],
      ],
    );
    const given = infoOf("c1").published_ports ?? [];
    expect(given.map(({ port, protocol }) => `${port}/${protocol}`)).toEqual(["80/tcp", "81/tcp", "53/udp"]);
    for (const { host_port } of given) expect(host_port >= 40_000 && host_port <= 40_003).toBe(true);
    const [first] = given;
    const port = first?.host_port ?? 0;
    shell("echo 32768 60999 > /proc/sys/net/ipv4/ip_local_port_range");
    expect(lab.fromLan("tcp", port)).toBe(`c1 80 ${Outside.address}`);
    expect(lab.fromLan("tcp", port, {}, host6)).toBe(`c1 80 ${outside6}`);
    ok("service", "detach", "c1", "c1.web");
    expect(lab.fromLan("tcp", port)).toBe("ECONNREFUSED");
    expect(shownPorts("c1")).toEqual([]);
    expect(ok("container", "info", "c1")).toContain("not published");
    ok("service", "attach", "c1", "c1.web");
    expect(infoOf("c1").published_ports).toEqual(given);
    // Of a range for one port, the first that is free.
    ok("container", "create", "-p", "6000-6002:80", "c2");
    ok("container", "create", "-p", "6000-6002:80", "c3");
    for (const name of ["c2", "c3"]) lab.attach(name, "web");
    expect([...shownPorts("c2"), ...shownPorts("c3")].map((text) => text.split(",")[0])).toEqual([
      "0.0.0.0:6000->80/tcp",
      "0.0.0.0:6001->80/tcp",
    ]);
    await lab.removeAll();
  });

  it("follow the default route to the next network, and lead nowhere where none leads outside", async () => {
    await lab.start();
    ok("network", "create", "web");
    ok("network", "create", "other");
    ok("network", "create", "--internal", "back");
    ok("container", "create", "-p", "8080:80", "c1");
    lab.attach("c1", "back");
    await lab.serve(infoOf("c1").key, "c1", [["tcp", 80]]);
    expect(shownPorts("c1")).toEqual([]);
    expect(lab.fromLan("tcp", 8080)).toBe("ECONNREFUSED");
    for (const network of ["web", "other"]) lab.attach("c1", network);
    const rules = () => run("nft", "list", "ruleset");
    expect(rules()).toContain(`tcp . 8080 : ${addressOf("c1.web")} . 80`);
    ok("service", "detach", "c1", "c1.web");
    expect(rules()).toContain(`tcp . 8080 : ${addressOf("c1.other")} . 80`);
    expect(rules()).not.toContain(`${addressOf("c1.web")} . 80`);
    expect(lab.fromLan("tcp", 8080)).toBe(`c1 80 ${Outside.address}`);
    ok("service", "unpublish", "-f", "c1.other");
    expect(rules()).not.toContain("_ports");
    expect(lab.fromLan("tcp", 8080)).toBe("ECONNREFUSED");
    await lab.removeAll();
  });

  it("31: are refused when anybody has them, with the name, and held so that nobody can take them", async () => {
    await lab.start();
    ok("network", "create", "web");
    const attach = (container: string, ...flags: readonly string[]): string => {
      ok("container", "create", ...flags, container);
      ok("service", "publish", `${container}.web`);
      const { status, stderr } = dnet("service", "attach", container, `${container}.web`);
      expect(status, stderr).toBe(1);
      ok("service", "unpublish", `${container}.web`);
      ok("container", "rm", container);
      return stderr;
    };
    const program = await lab.serve(undefined, "other", [
      ["tcp", 8080, "127.0.0.1"],
      ["udp", 5353],
    ]);
    expect(attach("c1", "-p", "8080:80")).toBe(
      `error : failed to bind host port 0.0.0.0:8080/tcp: address already in use\nnode (process ${program.pid}) has it; choose another host port, or none: then one is chosen for you\n`,
    );
    expect(attach("c1", "-p", "127.0.0.1:5353:53/udp")).toContain(
      "failed to bind host port 127.0.0.1:5353/udp: address",
    );
    expect(attach("c1", "-p", "10.9.9.9:8080:80")).toMatch(
      /^error : failed to bind host port 10\.9\.9\.9:8080\/tcp: cannot assign requested address\n/,
    );
    // All of a container's ports or none: the first one is free again.
    expect(attach("c1", "-p", "8081:80", "-p", "8080:80")).toContain("0.0.0.0:8080/tcp");
    await stop(program);

    await lab.run("c2", "web", ["-p", "8080-8081:80-81", "-p", "5353:53/udp", "-p", `${host}:8090:80`], [["tcp", 80]]);
    expect(attach("c1", "-p", "127.0.0.1:8080:80")).toBe(
      "error : Bind for 127.0.0.1:8080 failed: port is already allocated\ncontainer c2 has 8080/tcp; choose another host port, or none: then one is chosen for you\n",
    );
    expect(attach("c1", "-p", "8090:80")).toContain("Bind for 0.0.0.0:8090 failed");
    for (const [protocol, address, port] of [
      ["tcp", "127.0.0.1", 8080],
      ["tcp", "0.0.0.0", 8081],
      ["tcp", "::1", 8080],
      ["tcp", host, 8090],
      ["udp", "127.0.0.1", 5353],
      ["udp", host, 5353],
      ["udp", "::", 5353],
    ] as const)
      expect(bindable(protocol, address, port), `${protocol} ${address} ${port}`).toBe("EADDRINUSE");
    // Another address of the host is anybody's.
    expect(bindable("tcp", "127.0.0.1", 8090)).toBe("bound");
    ok("container", "rm", "c2");
    for (const port of [8080, 8081]) expect(bindable("tcp", "0.0.0.0", port)).toBe("bound");
    expect(bindable("udp", "::", 5353)).toBe("bound");
    await lab.removeAll();
  });

  it("31: go to one of many that ask at once", async () => {
    await lab.start();
    ok("network", "create", "web");
    const rest = new Rest("/run/dnet.sock");
    try {
      const racers = await Promise.all(
        Array.from({ length: 8 }, async (_, n) => ({
          // A port of its own choice for each besides, from a range that is just wide enough.
          sandbox: await rest.call<string>("POST", "/sandboxes", {
            container_id: `c${n}`,
            port_mapping: [
              { Port: 80, HostPort: 6000, HostPortEnd: 6007 },
              ...(n < 4 ? [{ Port: 81, HostPort: 8080 }] : []),
            ],
          }),
          service: await rest.call<string>("POST", "/services", { name: `c${n}`, network_name: "web" }),
        })),
      );
      const results = await Promise.allSettled(
        racers.map(({ sandbox, service }) =>
          rest.call("POST", `/services/${service}/backend`, { sandbox_id: sandbox }),
        ),
      );
      const refused = results.flatMap((result) => (result.status === "rejected" ? [String(result.reason)] : []));
      expect(refused).toHaveLength(3);
      for (const reason of refused) expect(reason).toMatch(/0\.0\.0\.0:8080.*(already allocated|in use)/);
      const given = (await rest.call<SandboxResource[]>("GET", "/sandboxes")).flatMap(
        ({ published_ports = [] }) => published_ports,
      );
      const ports = given.map(({ host_port }) => host_port);
      expect(given).toHaveLength(6);
      expect(new Set(ports).size).toBe(6);
      expect(ports.filter((port) => port === 8080)).toHaveLength(1);
      expect(ports.every((port) => port === 8080 || (port >= 6000 && port <= 6007))).toBe(true);
    } finally {
      rest.close();
    }
    await lab.removeAll();
  });

  it("that the kernel has no protocol for are refused", async (context) => {
    if (bindable("sctp", "0.0.0.0", 8080) === "bound") return context.skip("this kernel has SCTP");
    await lab.start();
    ok("network", "create", "web");
    ok("container", "create", "-p", "8080:80/sctp", "c1");
    ok("service", "publish", "c1.web");
    const { stderr } = dnet("service", "attach", "c1", "c1.web");
    expect(stderr).toBe(
      "error : failed to bind host port 0.0.0.0:8080/sctp: this kernel has no SCTP\nload its module: modprobe sctp\n",
    );
    await lab.removeAll();
  });

  it("29: cost the daemon one file each, given back at the end", async () => {
    await lab.start();
    ok("network", "create", "web");
    const cycle = () => {
      ok("container", "create", "-p", "10000-10499:10000-10499", "-p", "10000-10009:80-89/udp", "c1");
      lab.attach("c1", "web");
      const most = lab.descriptors();
      ok("container", "rm", "c1");
      return most;
    };
    cycle();
    const before = lab.descriptors();
    const most = cycle();
    expect(most - before).toBeGreaterThanOrEqual(510);
    expect(most - before).toBeLessThan(530);
    expect(lab.descriptors()).toBeLessThanOrEqual(before + 2);
    await lab.removeAll();
  });
});

describe("who reaches a published port", () => {
  it("25, moby 45610, moby 49325: one on 127.0.0.1 is the host's alone, also by crafted packets", async () => {
    await lab.start();
    ok("network", "create", "web");
    ok("network", "create", "-o", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1", "bound");
    await lab.run(
      "c1",
      "web",
      ["-p", "127.0.0.1:8080:80", "-p", "[::1]:8081:80", "-p", "127.0.0.1:5353:53/udp"],
      [
        ["tcp", 80],
        ["udp", 53],
      ],
    );
    await lab.run("c2", "bound", ["-p", "8082:80"], [["tcp", 80]]);
    expect(shownPorts("c2")).toEqual(["127.0.0.1:8082->80/tcp"]);
    // By IPv6 to a sandbox without: for clients on the loopback, and for nobody else, who would lose his address.
    await lab.run("c3", "web", ["-p", "8083:80"], [["tcp", 80]]);
    expect(call(undefined, "tcp", "::1", 8083)).toBe("c3 80 172.18.0.1");
    expect(lab.fromLan("tcp", 8083, {}, host6)).toBe("ECONNREFUSED");
    // Never with a loopback address as source (CVE-2021-20199).
    expect(call(undefined, "tcp", "127.0.0.1", 8080)).toBe("c1 80 172.18.0.1");
    expect(call(undefined, "tcp", "::1", 8081)).toBe("c1 80 172.18.0.1");
    expect(call(undefined, "udp", "127.0.0.1", 5353)).toBe("c1 53 172.18.0.1 hello");
    expect(call(undefined, "tcp", "127.0.0.1", 8082)).toBe("c2 80 172.19.0.1");
    for (const port of [8080, 8081, 8082]) {
      expect(lab.fromLan("tcp", port)).toBe("ECONNREFUSED");
      expect(lab.fromLan("tcp", port, {}, host6)).toBe("ECONNREFUSED");
    }
    // The neighbour sends what is meant for 127.0.0.1 to this host, which an administrator told to take it.
    lab.outside.exec(
      "sh",
      "-ec",
      `echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet
       ip address delete 127.0.0.1/8 dev lo
       ip route add 127.0.0.1/32 via ${host} src ${Outside.address}`,
    );
    shell("echo 1 > /proc/sys/net/ipv4/conf/wan0/route_localnet");
    try {
      // Refused by the kernel: nobody listens there for the neighbour, not even to close the connection again.
      for (const port of [8080, 8082, 9])
        expect(lab.fromLan("tcp", port, {}, "127.0.0.1"), String(port)).toBe("ECONNREFUSED");
      expect(lab.fromLan("udp", 5353, {}, "127.0.0.1")).not.toContain(" 53 ");
    } finally {
      shell("echo 0 > /proc/sys/net/ipv4/conf/wan0/route_localnet");
      lab.outside.exec("sh", "-ec", "ip route delete 127.0.0.1/32; ip address add 127.0.0.1/8 dev lo");
    }
    // Nor is a sandbox reached past its ports.
    lab.outside.exec("ip", "route", "add", "172.16.0.0/12", "via", host);
    expect(lab.fromLan("tcp", 80, {}, addressOf("c1.web"))).toBe("timeout");
    lab.outside.exec("ip", "route", "delete", "172.16.0.0/12");
    await lab.removeAll();
  });

  it("35, moby 27817: the same sandbox, its neighbours, other networks, the host by its address and by the loopback", async () => {
    await lab.start();
    ok("network", "create", "--ipv6", "web");
    ok("network", "create", "--ipv6", "other");
    await lab.run(
      "c1",
      "web",
      ["-p", "8080:80", "-p", "5353:53/udp"],
      [
        ["tcp", 80],
        ["udp", 53],
      ],
    );
    const c2 = await lab.run("c2", "web", [], []);
    const c3 = await lab.run("c3", "other", [], []);
    const c1 = infoOf("c1");
    const gateway6 = addressOf("c1.web", 6).replace(/:2$/, ":1");
    const expected = [
      ["itself", c1.key, host, "172.18.0.1"],
      ["itself, IPv6", c1.key, host6, gateway6],
      ["itself, by its gateway", c1.key, "172.18.0.1", "172.18.0.1"],
      ["a neighbour", c2.key, host, "172.18.0.1"],
      ["a neighbour, IPv6", c2.key, host6, gateway6],
      ["another network", c3.key, host, addressOf("c3.other")],
      ["another network, IPv6", c3.key, host6, addressOf("c3.other", 6)],
      ["the host by its address", undefined, host, host],
      ["the host by its IPv6 address", undefined, host6, host6],
      ["the host by its loopback", undefined, "127.0.0.1", "172.18.0.1"],
      ["the host by its IPv6 loopback", undefined, "::1", gateway6],
    ] as const;
    // With br_netfilter, packets of a bridge pass these rules as well.
    const filtered = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    for (const value of existsSync(filtered) ? ["1", "0"] : ["none"]) {
      if (value !== "none") for (const name of [filtered, filtered.replace("ip", "ip6")]) writeFileSync(name, value);
      for (const [who, place, address, seen] of expected) {
        expect(call(place, "tcp", address, 8080), `${who}, br_netfilter ${value}`).toBe(`c1 80 ${seen}`);
        expect(call(place, "udp", address, 5353), `${who}, br_netfilter ${value}`).toBe(`c1 53 ${seen} hello`);
      }
    }
    // Without the port they are apart as before.
    expect(call(c3.key, "tcp", addressOf("c1.web"), 80)).toBe("timeout");
    await lab.removeAll();
  });

  it("CVE-2019-9946: translations of other programs go first, whether they were there before or came later", async () => {
    await lab.start();
    ok("network", "create", "web");
    const c2 = await lab.run("c2", "web", [], [["tcp", 80]]);
    const service = (address: string) => `
      table ip service {
        chain prerouting {
          type nat hook prerouting priority dstnat;
          tcp dport 8080 dnat to ${address}:80
        }
      }`;
    expect(c2.endpoints).toHaveLength(1);
    const before = service(addressOf("c2.web"));
    execFileSync("nft", ["-f", "-"], { input: before });
    try {
      await lab.run("c1", "web", ["-p", "8080:80"], [["tcp", 80]]);
      expect(lab.fromLan("tcp", 8080)).toBe(`c2 80 ${Outside.address}`);
      run("nft", "delete", "table", "ip", "service");
      expect(lab.fromLan("tcp", 8080)).toBe(`c1 80 ${Outside.address}`);
      execFileSync("nft", ["-f", "-"], { input: before });
      expect(lab.fromLan("tcp", 8080)).toBe(`c2 80 ${Outside.address}`);
    } finally {
      run("nft", "delete", "table", "ip", "service");
    }
    await lab.removeAll();
  });

  it("CVE-2025-67499: traffic in transit to the same port of another host is nobody's, and goes on", async () => {
    await lab.start();
    ok("network", "create", "web");
    const c2 = await lab.run("c2", "web", [], []);
    await lab.serve(lab.outside.pid, "remote", [
      ["tcp", 8080],
      ["udp", 5353],
    ]);
    const source = 41_000;
    expect(call(c2.key, "udp", Outside.address, 5353, { source })).toBe(`remote 5353 ${host} hello`);
    const flow = () => run("conntrack", "-L", "-p", "udp", "--orig-port-dst", "5353", "-o", "id").match(/id=\d+/)?.[0];
    const before = flow();
    expect(before).toBeDefined();
    await lab.run(
      "c1",
      "web",
      ["-p", "8080:80", "-p", "5353:53/udp"],
      [
        ["tcp", 80],
        ["udp", 53],
      ],
    );
    expect(call(c2.key, "tcp", Outside.address, 8080)).toBe(`remote 8080 ${host}`);
    expect(call(c2.key, "udp", Outside.address, 5353, { source })).toBe(`remote 5353 ${host} hello`);
    expect(flow()).toBe(before);
    expect(lab.fromLan("tcp", 8080)).toBe(`c1 80 ${Outside.address}`);
    ok("container", "rm", "c1");
    expect(flow()).toBe(before);
    await lab.removeAll();
  });
});
