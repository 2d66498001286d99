import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { enterOwnHost, eventually, expectNothingLeft, run } from "../own-host.ts";
import { ok } from "./dnet.ts";
import { Outside } from "./outside.ts";
import { addressOf, host, infoOf, PortHost } from "./port-host.ts";
import { bindable, Connection, call, stop } from "./port-peers.ts";

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

const flows = (...more: readonly string[]): readonly string[] =>
  run("conntrack", "-L", ...more)
    .split("\n")
    .filter((line) => line !== "");

describe("published ports and the daemon's life", () => {
  it.each(["SIGTERM", "SIGKILL"] as const)("4: stay through %s, established connections too", async (signal) => {
    await lab.start();
    ok("network", "create", "web");
    await lab.run(
      "c1",
      "web",
      ["-p", "8080:80", "-p", "81", "-p", "5353:53/udp"],
      [
        ["tcp", 80],
        ["udp", 53],
      ],
    );
    const given = infoOf("c1").published_ports;
    const outer = new Connection(lab.outside.pid, host, 8080);
    const local = new Connection(undefined, host, 8080);
    const relayed = new Connection(undefined, "127.0.0.1", 8080);
    try {
      expect(await outer.greeting()).toBe(`c1 80 ${Outside.address}`);
      expect(await local.greeting()).toBe(`c1 80 ${host}`);
      expect(await relayed.greeting()).toBe("c1 80 172.18.0.1");
      const source = 42_000;
      expect(lab.fromLan("udp", 5353, { source })).toContain("c1 53");
      const flow = () =>
        flows("-p", "udp", "--orig-port-dst", "5353", "-o", "id")
          .join()
          .match(/id=\d+/)?.[0];
      const tracked = flow();
      expect(tracked).toBeDefined();

      await lab.daemon?.stop(signal);
      expect(await outer.echoes("while it is down")).toBe(true);
      expect(lab.fromLan("tcp", 8080)).toBe(`c1 80 ${Outside.address}`);
      await eventually("the relay's connection ended", () => relayed.ended);

      // Its own connection waits for its end (TIME_WAIT); the port is taken again all the same.
      await lab.start();
      expect(lab.log).not.toContain("is not held");
      expect(await outer.echoes("after the start")).toBe(true);
      expect(await local.echoes("after the start")).toBe(true);
      expect(flow()).toBe(tracked);
      expect(infoOf("c1").published_ports).toEqual(given);
      expect(bindable("tcp", "0.0.0.0", 8080)).toBe("EADDRINUSE");
      expect(bindable("udp", "127.0.0.1", 5353)).toBe("EADDRINUSE");
      expect(call(undefined, "tcp", "127.0.0.1", 8080)).toBe("c1 80 172.18.0.1");
    } finally {
      for (const connection of [outer, local, relayed]) await connection.close();
    }
    await lab.removeAll();
  });

  it("31: are taken back when another program took one meanwhile, as soon as it lets go", async () => {
    await lab.start();
    ok("network", "create", "web");
    await lab.run("c1", "web", ["-p", "8080:80", "-p", "8081:80"], [["tcp", 80]]);
    await lab.daemon?.stop();
    const thief = await lab.serve(undefined, "thief", [["tcp", 8080]]);
    await lab.start();
    expect(lab.log).toMatch(/port 8080:80\/tcp of container c1 is not held: .*address already in use/);
    expect(bindable("tcp", "0.0.0.0", 8081)).toBe("EADDRINUSE");
    // NAT leads on whoever listens on the host.
    expect(lab.fromLan("tcp", 8080)).toBe(`c1 80 ${Outside.address}`);
    await stop(thief);
    await eventually(
      "the port is held",
      () => call(undefined, "tcp", "127.0.0.1", 8080) === "c1 80 172.18.0.1",
      30_000,
    );
    await lab.removeAll();
  });

  it("are gone with their sandbox after a reboot: no rule, no port held", async () => {
    await lab.start();
    ok("network", "create", "web");
    await lab.run("c1", "web", ["-p", "8080:80"], []);
    await lab.daemon?.stop("SIGKILL");
    run("sh", "-c", "umount -l /run/docker/netns/*; rm /run/docker/netns/*");
    await lab.start();
    expect(run("nft", "list", "ruleset")).not.toContain("8080");
    expect(bindable("tcp", "0.0.0.0", 8080)).toBe("bound");
    expect(lab.fromLan("tcp", 8080)).toBe("ECONNREFUSED");
    await lab.removeAll();
  });
});

describe("connection tracking", () => {
  it("30, moby 8795, moby 44752: datagrams that came before the port follow it once it is there", async () => {
    await lab.start();
    ok("network", "create", "web");
    const source = 43_000;
    // Tracked as meant for the host itself, on and on.
    expect(lab.fromLan("udp", 5353, { source })).not.toContain("53 ");
    expect(flows("-p", "udp", "--orig-port-dst", "5353")).toHaveLength(1);
    await lab.run("c1", "web", ["-p", "5353:53/udp"], [["udp", 53]]);
    expect(lab.fromLan("udp", 5353, { source })).toBe(`c1 53 ${Outside.address} hello`);
    await lab.removeAll();
  });

  it("30, moby 53384: they follow the port to another container, whatever its own port is, and nobody after it", async () => {
    await lab.start();
    ok("network", "create", "web");
    const source = 44_000;
    await lab.run("c1", "web", ["-p", "5353:53/udp", "-p", `${host}:5354:53/udp`], [["udp", 53]]);
    await lab.run("c3", "web", ["-p", "53:5353/udp"], [["udp", 5353]]);
    expect(lab.fromLan("udp", 5353, { source })).toBe(`c1 53 ${Outside.address} hello`);
    expect(lab.fromLan("udp", 5354, { source })).toBe(`c1 53 ${Outside.address} hello`);
    expect(lab.fromLan("udp", 53, { source })).toBe(`c3 5353 ${Outside.address} hello`);
    const other = flows("-p", "udp", "--orig-port-dst", "53", "-o", "id");
    ok("container", "rm", "c1");
    // By the host's port and not by the container's: c3's flow to port 53 of the host goes on.
    expect(flows("-p", "udp", "--orig-port-dst", "5353")).toEqual([]);
    expect(flows("-p", "udp", "--orig-port-dst", "5354")).toEqual([]);
    const ids = (lines: readonly string[]) => lines.join().match(/id=\d+/g);
    expect(ids(flows("-p", "udp", "--orig-port-dst", "53", "-o", "id"))).toEqual(ids(other));
    await lab.run("c2", "web", ["-p", "5353:1053/udp"], [["udp", 1053]]);
    expect(addressOf("c2.web")).toBe("172.18.0.2");
    expect(lab.fromLan("udp", 5353, { source })).toBe(`c2 1053 ${Outside.address} hello`);
    await lab.removeAll();
    expect(lab.fromLan("udp", 5353, { source })).not.toContain("1053");
  });

  it("ends connections to a port that is taken back", async () => {
    await lab.start();
    ok("network", "create", "web");
    const { key } = await lab.run("c1", "web", ["-p", "8080:80"], [["tcp", 80]]);
    const connection = new Connection(lab.outside.pid, host, 8080);
    try {
      expect(await connection.greeting()).toContain("c1 80");
      expect(flows("-p", "tcp", "--orig-port-dst", "8080")).toHaveLength(1);
      expect(key).toContain("/netns/");
      ok("service", "detach", "c1", "c1.web");
      expect(flows("-p", "tcp", "--orig-port-dst", "8080")).toEqual([]);
    } finally {
      await connection.close();
    }
    await lab.removeAll();
  });
});
