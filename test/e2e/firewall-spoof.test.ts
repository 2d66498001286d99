import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { option } from "../../src/drivers/options.ts";
import { enterOwnHost, eventually, expectNothingLeft, shell } from "../own-host.ts";
import { at, connects, here, inject, Lab, reaches, type Sandbox } from "./firewall-lab.ts";
import { arpReply, ethernet, neighbourAdvertisement, routerAdvertisement, udp } from "./frames.ts";

/** Sandboxes that forge addresses, in a network that lets them and in one that does not. */

let lab: Lab;

beforeAll(async () => {
  enterOwnHost();
  lab = await Lab.open();
});
afterEach(() => lab.clear());
afterAll(async () => {
  await lab.close();
  expectNothingLeft();
});

const families = [4, 6] as const;
const everybody = "ff:ff:ff:ff:ff:ff";
const forged = "02:00:00:00:00:99";

interface Scene {
  readonly attacker: Sandbox;
  readonly victim: Sandbox;
  readonly peer: Sandbox;
}

const scene = async (name: string, antiSpoofing: boolean): Promise<Scene> => {
  const network = await lab.network(name, { options: { [option.antiSpoofing]: String(antiSpoofing) } });
  const sandboxes = [];
  for (const role of ["attacker", "victim", "peer"]) sandboxes.push(await lab.sandbox(`${role}-${name}`, network));
  const [attacker, victim, peer] = sandboxes as [Sandbox, Sandbox, Sandbox];
  return { attacker, victim, peer };
};

const address = (sandbox: Sandbox, family: 4 | 6): string => Object.values(sandbox.addresses)[0]?.[family] ?? "";

describe("a sandbox that forges addresses", () => {
  it("gets its datagrams through in a network that lets it, and nowhere in one with anti-spoofing", async () => {
    const scenes = { open: await scene("open", false), closed: await scene("closed", true) };
    const received: Record<string, readonly string[]> = {};
    for (const [name, { attacker, victim, peer }] of Object.entries(scenes)) {
      const server = await lab.serve(peer);
      const frames = families.flatMap((family) => {
        const type = family === 4 ? 0x0800 : 0x86dd;
        const [from, own, to] = [address(victim, family), address(attacker, family), address(peer, family)];
        return [
          ethernet(peer.mac, attacker.mac, type, udp(from, to, 80, `forged source IPv${family}`)),
          ethernet(peer.mac, forged, type, udp(own, to, 80, `forged MAC IPv${family}`)),
          ethernet(peer.mac, attacker.mac, type, udp(own, to, 80, `honest IPv${family}`)),
        ];
      });
      inject(attacker, "eth0", ...frames);
      const last = () => server.datagrams.filter((text) => text.startsWith("honest")).length === 2;
      await eventually("what is honest arrives", last);
      received[name] = [...server.datagrams].sort();
    }
    expect(received).toEqual({
      open: families.flatMap((f) => [`forged MAC IPv${f}`, `forged source IPv${f}`, `honest IPv${f}`]).sort(),
      closed: ["honest IPv4", "honest IPv6"],
    });
  });

  it("cannot take its neighbours' place, nor the gateway's, by ARP or neighbour discovery", async () => {
    const scenes = { open: await scene("open", false), closed: await scene("closed", true) };
    for (const [name, { attacker, victim, peer }] of Object.entries(scenes)) {
      await lab.serve(victim);
      // The peer and the host know where the victim is.
      for (const family of families) {
        expect(await reaches(peer, address(victim, family))).toBe(true);
        expect(await reaches(here, address(victim, family))).toBe(true);
      }
      inject(
        attacker,
        "eth0",
        ethernet(everybody, attacker.mac, 0x0806, arpReply(attacker.mac, address(victim, 4))),
        ethernet("ff02::1", attacker.mac, 0x86dd, neighbourAdvertisement(attacker.mac, address(victim, 6))),
        // Each claim with an honest source of the packet around it.
        ethernet(
          "ff02::1",
          attacker.mac,
          0x86dd,
          neighbourAdvertisement(attacker.mac, address(victim, 6), address(attacker, 6)),
        ),
        // What is honest comes last, so that what comes before has been seen.
        ethernet("ff02::1", attacker.mac, 0x86dd, neighbourAdvertisement(attacker.mac, address(attacker, 6))),
      );
      const known = (of: 4 | 6) => at(peer, "ip", "neigh", "show", address(victim, of));
      const taken = name === "open";
      if (taken) await eventually("IPv6 is taken over", () => known(6).includes(attacker.mac));
      for (const family of families) {
        const answers = await connects(peer, address(victim, family), 80, !taken);
        expect({ name, family, answers }).toEqual({ name, family, answers: !taken || answers });
      }
      if (!taken) {
        expect(known(4)).not.toContain(attacker.mac);
        expect(known(6)).not.toContain(attacker.mac);
      }
    }
  });

  it("advertises no routers, not even to those who want them", async () => {
    const { attacker, peer } = await scene("closed", true);
    at(peer, "sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=2");
    const source =
      /fe80::[0-9a-f:]+/.exec(at(attacker, "ip", "-6", "-br", "address", "show", "dev", "eth0"))?.[0] ?? "";
    const server = await lab.serve(peer);
    inject(
      attacker,
      "eth0",
      ethernet("ff02::1", attacker.mac, 0x86dd, routerAdvertisement(source, "2001:db8:bad::")),
      ethernet(peer.mac, attacker.mac, 0x86dd, udp(address(attacker, 6), address(peer, 6), 80, "after it")),
    );
    await eventually("what came after it arrives", () => server.datagrams.includes("after it"));
    expect(at(peer, "ip", "-6", "address", "show")).not.toContain("2001:db8:bad");
  });

  it("is let go with its last endpoint, and looked at again after a start and a flush", async () => {
    const { attacker, victim } = await scene("closed", true);
    await lab.serve(victim);
    const rules = () => shell("nft -s list ruleset bridge");
    const before = rules();
    expect(before.match(/"veth[0-9a-f]{11}"/g)?.length).toBeGreaterThan(3);
    shell("nft flush ruleset");
    await eventually("the table is back", () => rules() === before);
    for (const family of families) expect(await reaches(attacker, address(victim, family))).toBe(true);
    await lab.clear();
    expect(rules()).not.toContain("elements");
  });
});
