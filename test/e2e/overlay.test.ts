import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { DiagnosisResource } from "../../src/api/resources.ts";
import { NodeClient } from "../chaos/node-client.ts";
import { enterOwnHost, eventually, expectNothingLeft } from "../own-host.ts";
import { OverlayLab } from "./overlay-lab.ts";

const outside = "203.0.113.2";
const hosts = [1, 2, 3] as const;
const patient = 60_000;
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });
let lab: OverlayLab;

beforeAll(async () => {
  enterOwnHost();
  lab = await OverlayLab.up({ hosts: 3 });
  await lab.dnet(1, "network", "create", "-d", "overlay", "multihost");
  for (const host of hosts) await lab.join(host, `c${host}`, ["multihost"], "--alias", `alias${host}`);
});
afterAll(async () => {
  await lab?.down();
  expectNothingLeft();
});

/** Answers of the sandbox's resolver. */
const resolve = async (host: number, ...query: readonly string[]): Promise<string> => {
  const { stdout } = await lab.run(host, `c${host}`, "dig", "+short", "+tries=1", "+time=5", ...query);
  return stdout.trim();
};

describe("an overlay network on three hosts", () => {
  it("11, ln 617, ln 962, ln 2367: every sandbox reaches every other by name and alias, each address has its name, and a name goes at detach", async () => {
    for (const here of hosts) {
      for (const there of hosts.filter((other) => other !== here)) {
        const address = await lab.address(here, `c${there}.multihost`);
        expect(await resolve(here, `c${there}`)).toBe(address);
        expect(await resolve(here, `alias${there}`)).toBe(address);
        expect(await resolve(here, "-x", address)).toBe(`c${there}.multihost.`);
        expect(await lab.reaches(here, `c${here}`, `c${there}`)).toBe(true);
      }
      expect(await lab.reaches(here, `c${here}`, outside)).toBe(true);
    }
    const address = await lab.address(1, "c3.multihost");
    await lab.dnet(3, "service", "detach", "c3", "c3.multihost");
    // What was detached there has no name here any more; the other host follows the store.
    await eventually("the name is gone", async () => (await resolve(1, "c3")) === "", patient);
    expect(await resolve(1, "alias3")).toBe("");
    expect(await resolve(1, "-x", address)).toBe("");
    expect(await lab.overlay(1, "multihost", "bridge", "fdb", "show", "dev", "vxlan1")).not.toContain("172.17.0.5");
    await lab.dnet(3, "service", "attach", "c3", "c3.multihost");
    await eventually("c3 is back", () => lab.reaches(1, "c1", "c3"), patient);
  });

  it("a name is known on every host as soon as attach has returned: whoever asks after that is told", async () => {
    const one = new NodeClient(lab.lab.host(1));
    const call = async (method: string, path: string, body: object): Promise<string> => {
      const { outcome, text } = await one.call(method, path, body);
      if (outcome !== "ok") throw new Error(`${method} ${path}: ${text}`);
      return text.replace(/["\n]/g, "");
    };
    const asker = fileURLToPath(new URL("ask-name.cjs", import.meta.url));
    const command = await lab.inside(2, "c2", process.execPath, asker);
    const child = await lab.lab.host(2).spawn(command, { stdio: ["pipe", "pipe", "inherit"] });
    const closed = new Promise((resolve) => child.once("close", resolve));
    const lines = createInterface({ input: child.stdout as Readable })[Symbol.asyncIterator]();
    const late: bigint[] = [];
    for (let round = 0; round < 5; round++) {
      const name = `fresh${round}`;
      const sandbox_id = await call("POST", "/sandboxes", { container_id: name });
      const service = await call("POST", "/services", { name, network_name: "multihost" });
      child.stdin?.write(`${name}.multihost\n`);
      expect((await lines.next()).value).toBe("asking");
      await call("POST", `/services/${service}/backend`, { sandbox_id });
      const returned = process.hrtime.bigint();
      const missed = BigInt((await lines.next()).value ?? "");
      if (missed > returned) late.push(missed - returned);
      await call("DELETE", `/sandboxes/${sandbox_id}`, {});
    }
    child.stdin?.end();
    await closed;
    expect(late).toEqual([]);
  });

  it("entries that somebody deletes come back with the next packet", async () => {
    const { mac_address: mac = "" } = await lab.service(1, "c2.multihost");
    const address = await lab.address(1, "c2.multihost");
    await lab.overlay(1, "multihost", "bridge", "fdb", "del", mac, "dev", "vxlan1", "dst", "172.17.0.4", "self");
    await lab.overlay(1, "multihost", "ip", "neighbor", "del", address, "dev", "vxlan1");
    await eventually("c2 is reached", () => lab.reaches(1, "c1", address), patient);
    expect(await lab.overlay(1, "multihost", "bridge", "fdb", "show", "dev", "vxlan1")).toMatch(
      new RegExp(`${mac} dst 172.17.0.4 .*self permanent`),
    );
    for (const line of [
      /Miss notification, l2 mac 02:42:0a:/,
      /found no entry for the way to c2 on node dnet-2, expected one: added/,
    ]) {
      await eventually(`logged: ${line}`, () => line.test(lab.lab.host(1).log));
    }
  });

  it("the packet filter of the network comes back after `nft flush ruleset`", async () => {
    const tables = () => lab.lab.host(2).run("nft", "list", "ruleset");
    const filter = /table inet dnet_overlay_[0-9a-f]{10} \{[^}]*elements = \{ 172\.17\.0\.3, 172\.17\.0\.5 \}/s;
    await eventually("it has both hosts", async () => filter.test(await tables()), patient);
    await lab.lab.host(2).run("nft", "flush", "ruleset");
    await eventually("the table is back", async () => filter.test(await tables()), patient);
    expect(await lab.reaches(2, "c2", "c1")).toBe(true);
    expect(await lab.reaches(2, "c2", outside)).toBe(true);
  });

  it("the end of a daemon and its next start lose no packet, by TERM and by KILL", async () => {
    for (const host of hosts) {
      const to = (host % 3) + 1;
      const pings = await Promise.all([lab.pings(host, `c${host}`, `c${to}`), lab.pings(to, `c${to}`, `c${host}`)]);
      await eventually("pings are answered", () => pings.every(({ answers }) => answers >= 3), patient);
      for (const signal of ["TERM", "KILL"] as const) {
        await lab.lab.host(host).kill(signal);
        const before = pings.map(({ answers }) => answers);
        const goOn = () => pings.every(({ answers }, n) => answers >= (before[n] ?? 0) + 5);
        await eventually("answers without the daemon", goOn, patient);
        await lab.lab.host(host).start();
      }
      for (const ping of pings) {
        const { sent, lost } = await ping.stop();
        expect(lost, ping.text.slice(-1000)).toBe(0);
        expect(sent).toBeGreaterThan(10);
      }
    }
  });

  it("12, moby 30134, moby 30487, moby 42833, moby 28843, moby 47728: a service that moves to another host is reached there", async () => {
    await lab.dnet(2, "container", "create", "other");
    await lab.dnet(1, "service", "publish", "mover.multihost");
    await lab.dnet(1, "container", "create", "mover");
    await lab.dnet(1, "service", "attach", "mover", "mover.multihost");
    const address = await lab.address(1, "mover.multihost");
    await eventually("c3 reaches it on dnet-1", () => lab.reaches(3, "c3", address), patient);
    expect(await resolve(3, "mover")).toBe(address);
    const pings = await lab.pings(3, "c3", address);
    await eventually("pings are answered", () => pings.answers >= 3, patient);
    await lab.dnet(1, "service", "detach", "mover", "mover.multihost");
    await lab.dnet(2, "service", "attach", "other", "mover.multihost");
    const before = pings.answers;
    await eventually("the same pings are answered on dnet-2", () => pings.answers >= before + 3, patient);
    await pings.stop();
    // Neither the host that it left nor any other has a stale name of it.
    for (const host of hosts) {
      await eventually(`dnet-${host} knows it`, async () => (await resolve(host, "mover")) === address, patient);
      expect(await resolve(host, "-x", address)).toBe("mover.multihost.");
    }
    // The host that it left reaches it too, and no host knows it in two places.
    expect(await lab.reaches(1, "c1", address)).toBe(true);
    for (const host of [1, 3]) {
      const fdb = await lab.overlay(host, "multihost", "bridge", "fdb", "show");
      const { mac_address: mac = "" } = await lab.service(host, "mover.multihost");
      expect(fdb.split("\n").filter((line) => line.startsWith(mac))).toEqual([
        expect.stringMatching(/dst 172\.17\.0\.4/),
      ]);
    }
    await lab.dnet(2, "container", "rm", "other");
    await lab.dnet(1, "container", "rm", "mover");
  });

  it("a firewall that drops VXLAN on the way is named by dnet doctor, on both sides; without it nothing is found", async () => {
    const doctor = async (host: number) => {
      const { stdout } = await lab.lab.host(host).dnet("doctor", "--format", "json");
      const { findings, unchecked } = JSON.parse(stdout) as DiagnosisResource;
      expect(unchecked).toEqual([]);
      return findings.map(({ code, subject }) => `${code} ${subject.replace(/ \(.*/, "")}`).sort();
    };
    for (const host of hosts) expect(await doctor(host)).toEqual([]);
    const drop = "table inet way { chain input { type filter hook input priority 0; udp dport 4789 drop; }; }";
    await lab.lab.host(2).run("nft", drop);
    expect(await doctor(1)).toEqual(["vxlan-unreachable node dnet-2"]);
    expect(await doctor(2)).toEqual(["vxlan-unreachable node dnet-1", "vxlan-unreachable node dnet-3"]);
    const said = await lab.lab.host(1).dnet("doctor");
    expect([said.status, said.stdout]).toEqual([1, expect.stringContaining("let UDP port 4789 through between")]);
    await lab.lab.host(2).run("nft", "delete table inet way");
    for (const host of hosts) expect(await doctor(host)).toEqual([]);
  });

  it("a second network has the next VNI and is apart; an internal one has no way out", async () => {
    await lab.dnet(1, "network", "create", "-d", "overlay", "second");
    await lab.dnet(1, "network", "create", "-d", "overlay", "--internal", "inner");
    for (const host of [1, 2]) {
      await lab.join(host, `s${host}`, ["second"]);
      await lab.join(host, `i${host}`, ["inner"]);
    }
    expect(await lab.overlay(1, "multihost", "ip", "-d", "link", "show", "vxlan1")).toContain("vxlan id 256 ");
    expect(await lab.overlay(1, "second", "ip", "-d", "link", "show", "vxlan1")).toContain("vxlan id 257 ");
    await eventually("s2 has its name", () => lab.reaches(1, "s1", "s2"), patient);
    expect(await lab.reaches(1, "s1", await lab.address(1, "c2.multihost"), "-w", "1")).toBe(false);
    expect(await lab.reaches(1, "s1", outside)).toBe(true);
    await eventually("i2 has its name", () => lab.reaches(1, "i1", "i2"), patient);
    expect(await lab.reaches(1, "i1", outside, "-w", "1")).toBe(false);
    const { stdout } = await lab.run(1, "i1", "ip", "route", "show", "default");
    expect(stdout).toBe("");
    expect(await lab.dnet(1, "service", "ls")).not.toContain("gateway_i1");
    for (const host of [1, 2]) for (const name of ["s", "i"]) await lab.dnet(host, "container", "rm", `${name}${host}`);
    await lab.dnet(1, "network", "rm", "second");
    await lab.dnet(1, "network", "rm", "inner");
  });

  it("the default route goes to the network with the highest priority, and back", async () => {
    await lab.dnet(1, "network", "create", "-d", "bridge", "front");
    await lab.dnet(1, "network", "create", "-d", "bridge", "back");
    await lab.dnet(1, "container", "create", "routed");
    const device = async () => {
      const { stdout } = await lab.run(1, "routed", "ip", "route", "show", "default");
      return /dev (\S+)/.exec(stdout)?.[1];
    };
    for (const network of ["multihost", "front", "back"]) await lab.dnet(1, "service", "publish", `routed.${network}`);
    await lab.dnet(1, "service", "attach", "routed", "routed.multihost");
    expect(await device()).toBe("eth1");
    await lab.dnet(1, "service", "attach", "routed", "routed.front");
    const front = await device();
    await lab.dnet(1, "service", "attach", "--gw-priority", "10", "routed", "routed.back");
    const back = await device();
    expect(new Set(["eth0", front, back]).size).toBe(3);
    expect(await lab.reaches(1, "routed", outside)).toBe(true);
    await lab.dnet(1, "service", "detach", "routed", "routed.back");
    expect(await device()).toBe(front);
    await lab.dnet(1, "service", "detach", "routed", "routed.front");
    // What has no way out of its own gets one again.
    expect(await lab.dnet(1, "service", "ls")).toContain("gateway_routed");
    expect(await lab.reaches(1, "routed", outside)).toBe(true);
    expect(await lab.reaches(1, "routed", "c2")).toBe(true);
    await lab.dnet(1, "container", "rm", "routed");
    for (const network of ["front", "back"]) {
      await lab.dnet(1, "service", "unpublish", `routed.${network}`);
      await lab.dnet(1, "network", "rm", network);
    }
  });
});
