import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { option } from "../../src/drivers/options.ts";
import { enterOwnHost, eventually, expectNothingLeft, shell } from "../own-host.ts";
import { at, connects, here, inject, inPlace, Lab, Neighbour, outputOf, pings, reaches } from "./firewall-lab.ts";
import { ethernet, udp } from "./frames.ts";

/** Attacks by a neighbour on the LAN, and by sandboxes of other networks. */

let lab: Lab;
let neighbour: Neighbour;

beforeAll(async () => {
  enterOwnHost();
  neighbour = new Neighbour();
  await neighbour.connect();
  lab = await Lab.open();
});
afterEach(() => lab.clear());
afterAll(async () => {
  await lab.close();
  await neighbour.close();
  expectNothingLeft();
});

const families = [4, 6] as const;
const modes = (mode: string) => ({
  options: { [option.gatewayModeIpv4]: mode, [option.gatewayModeIpv6]: mode },
});

describe("moby 49325: a neighbour that routes to a sandbox's address", () => {
  it.each([
    { mode: "nat", internal: false, ping: false, connect: false },
    { mode: "nat-unprotected", internal: false, ping: true, connect: true },
    { mode: "routed", internal: false, ping: true, connect: false },
    { mode: "nat", internal: true, ping: false, connect: false },
    { mode: "routed", internal: true, ping: false, connect: false },
    { mode: "isolated", internal: true, ping: false, connect: false },
  ])("gets to mode $mode (internal: $internal): ping $ping, connect $connect", async (expected) => {
    const network = await lab.network("target", { ...modes(expected.mode), internal: expected.internal });
    const sandbox = await lab.sandbox("c1", network);
    await lab.serve(sandbox);
    neighbour.routeTo(network);
    const found = families.map(async (family) => {
      const address = sandbox.addresses.target?.[family] ?? "";
      const [ping, connect] = await Promise.all([
        pings(neighbour, address, expected.ping),
        connects(neighbour, address, 80, expected.connect),
      ]);
      return { family, ping, connect };
    });
    const { ping, connect } = expected;
    expect(await Promise.all(found)).toEqual(families.map((family) => ({ family, ping, connect })));
  });

  it("gets through where there is no firewall: the attack is one", async () => {
    await lab.close();
    lab = await Lab.open({ firewall: "none" });
    try {
      const network = await lab.network("target");
      const sandbox = await lab.sandbox("c1", network);
      await lab.serve(sandbox);
      neighbour.routeTo(network);
      for (const address of Object.values(sandbox.addresses.target ?? {})) {
        // Without a way back: the sandbox's default route leads to the host, which knows the neighbour.
        expect(await reaches(neighbour, address), address).toBe(true);
      }
    } finally {
      await lab.close();
      lab = await Lab.open();
    }
  });

  it("gets nowhere with a forged source either: another sandbox's, the gateway's, the loopback's", async () => {
    const [closed, open] = [await lab.network("closed"), await lab.network("open", modes("nat-unprotected"))];
    const [inside, reachable] = [await lab.sandbox("c1", closed), await lab.sandbox("c2", open)];
    const [server, control] = [await lab.serve(inside), await lab.serve(reachable)];
    const frames = (to: { readonly 4?: string; readonly 6?: string } = {}) =>
      families.flatMap((family) => {
        const target = to[family] ?? "";
        const near = target.replace(/[^.:]+$/, "9");
        const type = family === 4 ? 0x0800 : 0x86dd;
        const frame = (source: string) =>
          ethernet(neighbour.hostMac(), "02:00:00:00:00:99", type, udp(source, target, 80, `from ${source}`));
        return [near, neighbour.addresses[family]].map(frame);
      });
    inject(neighbour, "eth0", ...frames(inside.addresses.closed), ...frames(reachable.addresses.open));
    await eventually("what is allowed arrives", () => control.datagrams.length >= 2);
    expect(server.datagrams).toEqual([]);
  });

  it("gets nothing from a loopback address that it sends to the host", async () => {
    const server = await lab.serve(here, 8099);
    for (const target of ["127.0.0.1"]) {
      const frame = ethernet(
        neighbour.hostMac(),
        "02:00:00:00:00:99",
        0x0800,
        udp(neighbour.addresses[4], target, 8099, "x"),
      );
      inject(neighbour, "eth0", frame);
    }
    const control = ethernet(
      neighbour.hostMac(),
      "02:00:00:00:00:99",
      0x0800,
      udp(neighbour.addresses[4], neighbour.host[4], 8099, "control"),
    );
    inject(neighbour, "eth0", control);
    await eventually("the control arrives", () => server.datagrams.length > 0);
    expect(server.datagrams).toEqual(["control"]);
  });

  it("is let in from an interface that the network trusts", async () => {
    const network = await lab.network("target", { options: { [option.trustedInterfaces]: "wan0" } });
    const sandbox = await lab.sandbox("c1", network);
    await lab.serve(sandbox);
    neighbour.routeTo(network);
    for (const family of families)
      expect(await reaches(neighbour, sandbox.addresses.target?.[family] ?? "")).toBe(true);
  });
});

describe("the way out", () => {
  it("carries the host's address by NAT, the sandbox's own where routed, the chosen one where chosen", async () => {
    shell("ip address add 203.0.113.9/24 dev wan0; ip address add 2001:db8:113::9/64 dev wan0 nodad preferred_lft 0");
    const chosen = { [option.hostIpv4]: "203.0.113.9", [option.hostIpv6]: "2001:db8:113::9" };
    const networks = {
      nat: await lab.network("nat"),
      routed: await lab.network("routed", modes("routed")),
      chosen: await lab.network("chosen", { options: chosen }),
      plain: await lab.network("plain", { options: { [option.masquerade]: "false" } }),
    };
    await lab.serve(neighbour, 8080);
    for (const [name, network] of Object.entries(networks)) {
      neighbour.routeTo(network);
      const sandbox = await lab.sandbox(name, network);
      const own = sandbox.addresses[name] ?? {};
      const expected = {
        nat: neighbour.host,
        routed: own,
        chosen: { 4: "203.0.113.9", 6: "2001:db8:113::9" },
        plain: own,
      }[name];
      for (const family of families) {
        const target = neighbour.addresses[family];
        const seen = at(sandbox, "timeout", "5", "bash", "-c", `exec 3<>/dev/tcp/${target}/8080; cat <&3`).trim();
        expect({ name, family, seen }).toEqual({ name, family, seen: expected?.[family] });
      }
    }
    shell("ip address delete 203.0.113.9/24 dev wan0; ip address delete 2001:db8:113::9/64 dev wan0");
  });
});

it("39: a network of IPv6 alone has its way out, its names and its protection", async () => {
  const network = await lab.network("six", { subnets: [], ipv4: false, ipv6: true });
  expect(network.subnets.map(({ pool }) => pool)).toEqual([expect.stringMatching(/^fd/)]);
  const [one, two] = [await lab.sandbox("c1", network), await lab.sandbox("c2", network)];
  await lab.serve(two);
  await lab.serve(neighbour, 8080);
  neighbour.routeTo(network);
  const target = two.addresses.six?.[6] ?? "";
  expect(await reaches(one, target)).toBe(true);
  expect(await reaches(one, neighbour.addresses[6], 8080)).toBe(true);
  expect(await connects(neighbour, target)).toBe(false);
  expect(at(one, "ip", "-4", "address", "show", "dev", "eth0")).toBe("");
  expect(await outputOf(one, "dig", "@127.0.0.11", "+short", "c2", "AAAA")).toBe(`${target}\n`);
  expect(await outputOf(one, "dig", "@127.0.0.11", "+short", "-x", target)).toBe("c2.six.\n");
});

describe("networks", () => {
  it("cannot reach each other, whatever their gateway modes", async () => {
    const target = Object.fromEntries(
      await Promise.all(
        ["nat", "nat-unprotected", "routed"].map(async (mode) => {
          const network = await lab.network(mode, modes(mode));
          const sandbox = await lab.sandbox(`in-${mode}`, network);
          await lab.serve(sandbox);
          return [mode, sandbox] as const;
        }),
      ),
    );
    const attackers = [
      ...Object.values(target),
      await lab.sandbox("in-back", await lab.network("back", { internal: true })),
    ];
    for (const attacker of attackers) {
      // A sandbox's root gives it whatever routes it likes.
      for (const family of ["-4", "-6"]) {
        const [net] = Object.values(attacker.addresses);
        const own = family === "-4" ? net?.[4]?.replace(/\d+$/, "1") : net?.[6]?.replace(/[^:]+$/, "1");
        at(attacker, "ip", family, "route", "replace", "default", "via", own ?? "");
      }
      const tries = Object.entries(target).flatMap(([mode, sandbox]) =>
        families.map(async (family) => {
          const expected = mode === attacker.name.slice(3);
          const connected = await connects(attacker, sandbox.addresses[mode]?.[family] ?? "", 80, expected);
          return { from: attacker.name, to: `${mode}, IPv${family}`, connected, expected };
        }),
      );
      for (const { connected, expected, ...which } of await Promise.all(tries)) {
        expect({ ...which, connected }).toEqual({ ...which, connected: expected });
      }
    }
  });

  it("that are internal reach nothing: not the LAN, not this host beyond their gateway", async () => {
    const network = await lab.network("back", { internal: true });
    const [one, two] = [await lab.sandbox("c1", network), await lab.sandbox("c2", network)];
    await lab.serve(two);
    await lab.serve(neighbour, 8080);
    await lab.serve(here, 8081);
    for (const family of families) {
      const own = one.addresses.back?.[family] ?? "";
      const gateway = own.replace(/[^.:]+$/, "1");
      at(one, "ip", `-${family}`, "route", "replace", "default", "via", gateway);
      expect(await reaches(one, two.addresses.back?.[family] ?? ""), `peer, IPv${family}`).toBe(true);
      expect(await reaches(one, gateway, 8081), `gateway, IPv${family}`).toBe(true);
      expect(await connects(one, neighbour.host[family], 8081), `host, IPv${family}`).toBe(false);
      expect(await connects(one, neighbour.addresses[family], 8080), `LAN, IPv${family}`).toBe(false);
    }
  });

  it("that are isolated do not even reach this host, nor it them", async () => {
    const network = await lab.network("vault", { ...modes("isolated"), internal: true });
    const [one, two] = [await lab.sandbox("c1", network), await lab.sandbox("c2", network)];
    await lab.serve(two);
    for (const family of families) {
      const own = one.addresses.vault?.[family] ?? "";
      expect(await reaches(one, two.addresses.vault?.[family] ?? "")).toBe(true);
      expect(await pings(one, own.replace(/[^.:]+$/, "1")), `gateway, IPv${family}`).toBe(false);
      expect(await pings(here, own), `from the host, IPv${family}`).toBe(false);
    }
  });

  it("with icc off keep their own sandboxes apart, on the link and through the gateway", async () => {
    const network = await lab.network("apart", { options: { [option.icc]: "false" } });
    const [one, two] = [await lab.sandbox("c1", network), await lab.sandbox("c2", network)];
    await lab.serve(two);
    await lab.serve(neighbour, 8080);
    for (const family of families) {
      const target = two.addresses.apart?.[family] ?? "";
      const gateway = target.replace(/[^.:]+$/, "1");
      expect(await connects(one, target), `link, IPv${family}`).toBe(false);
      // By way of the gateway, as if the peer were elsewhere.
      at(one, "ip", `-${family}`, "route", "replace", `${target}/${family === 4 ? 32 : 128}`, "via", gateway);
      expect(await connects(one, target), `gateway, IPv${family}`).toBe(false);
      expect(await reaches(one, neighbour.addresses[family], 8080), `LAN, IPv${family}`).toBe(true);
    }
    expect(inPlace(one, "ip", "neigh", "show", two.addresses.apart?.[4] ?? "").stdout).not.toContain("lladdr");
  });
});
