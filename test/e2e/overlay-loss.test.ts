import { appendFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { enterOwnHost, eventually, expectNothingLeft } from "../own-host.ts";
import { OverlayLab } from "./overlay-lab.ts";

const datagram = fileURLToPath(new URL("../overlay/datagram.cjs", import.meta.url));
const hosts = [1, 2, 3] as const;
const patient = 60_000;
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });
let lab: OverlayLab;

beforeAll(async () => {
  enterOwnHost();
  lab = await OverlayLab.up({ hosts: 3, cluster: { Heartbeat: 1 } });
  const multicast = "com.docker.network.driver.overlay.multicast=true";
  await lab.dnet(1, "network", "create", "-d", "overlay", "--ipv6", "-o", multicast, "both");
  for (const host of hosts) await lab.join(host, `c${host}`, ["both"]);
});
afterAll(async () => {
  await lab?.down();
  expectNothingLeft();
});

const fdb = (host: number): Promise<string> => lab.overlay(host, "both", "bridge", "fdb", "show");
const neighbors = (host: number): Promise<string> =>
  lab.overlay(host, "both", "ip", "neighbor", "show", "nud", "permanent");

describe("an overlay network with IPv6 and multicast", () => {
  it("carries both families by name, and what mDNS sends", async () => {
    const six = await lab.address(1, "c2.both", 6);
    expect(six).toContain(":");
    expect(await lab.reaches(1, "c1", six)).toBe(true);
    expect(await lab.reaches(3, "c3", "c2", "-6")).toBe(true);
    expect(await lab.reaches(3, "c3", "c2", "-4")).toBe(true);

    const node = process.execPath;
    const listening = [await lab.address(2, "c2.both"), "224.0.0.251", "5353"] as const;
    const [own, group, port] = listening;
    const command = await lab.inside(2, "c2", node, datagram, "listen", group, port, own);
    const listener = await lab.lab.host(2).spawn(command, { stdio: ["ignore", "pipe", "inherit"] });
    let heard = "";
    listener.stdout?.on("data", (chunk: Buffer) => {
      heard += chunk.toString();
    });
    await eventually("it listens", () => heard.includes("ready"), patient);
    const from = await lab.address(1, "c1.both");
    await eventually(
      "the datagram is heard on the other host",
      async () => {
        await lab.run(1, "c1", node, datagram, "send", group, port, from, "6d444e53");
        return heard.includes("6d444e53");
      },
      patient,
    );
    listener.kill();
    await lab.lab.host(2).exec("pkill", "-f", datagram);
  });
});

describe("hosts that go", () => {
  it("a host that boots anew gets its containers back under their names", async () => {
    const address = await lab.address(1, "c3.both");
    // What a host keeps for a start without the store may be older than what is in the store: here it has nothing.
    await lab.lab.host(3).run("rm", "-f", "/var/lib/docker/network/global.json");
    await lab.lab.host(3).reboot();
    // From every host: with entries of before, one that is behind would reach it too, until it drops them.
    const known = async () => (await Promise.all([fdb(1), fdb(2)])).some((entries) => entries.includes("172.17.0.5"));
    await eventually("what was on it is gone", async () => !(await known()), patient);
    expect(await lab.dnet(3, "container", "ls")).not.toContain("c3");
    await lab.join(3, "c3", ["both"]);
    expect(await lab.address(1, "c3.both")).toBe(address);
    await eventually("c3 is reached", () => lab.reaches(1, "c1", "c3"), patient);
    // Each host follows by itself: that one knows c3 says nothing of the other.
    await eventually("c3 is reached from the other host", () => lab.reaches(2, "c2", "c3"), patient);
    expect(await lab.reaches(3, "c3", "c2")).toBe(true);
    expect(lab.lab.host(3).log).not.toMatch(/could not (be followed|follow)/);
  });

  it("14: a host that died is said to be gone, its services stay until they are unpublished by force, and another takes over", async () => {
    const address = await lab.address(1, "c2.both");
    await lab.join(2, "stays", ["both"]);
    await lab.lab.host(2).kill();
    const node = async () => (await lab.service(1, "c2.both")).node;
    await eventually("it is gone", async () => (await node())?.state === "gone", 120_000);
    expect(await lab.dnet(1, "service", "info", "c2.both")).toContain("Node: dnet-2 (gone)");
    // Its sandboxes run on: the others keep the way to them.
    expect(await fdb(1)).toContain("dst 172.17.0.4");
    expect(await lab.reaches(1, "c1", address)).toBe(true);

    await lab.dnet(1, "service", "unpublish", "-f", "c2.both");
    const known = async () =>
      (await Promise.all([neighbors(1), neighbors(3)])).some((text) => text.includes(`${address} `));
    await eventually("nobody knows it", async () => !(await known()), patient);
    await lab.join(3, "c2", ["both"]);
    expect(await lab.address(1, "c2.both")).toBe(address);
    await eventually("it is reached on the other host", () => lab.reaches(1, "c1", "c2"), patient);
    expect(await fdb(1)).toMatch(/dst 172\.17\.0\.5/);

    // Back again, the host gives up what was taken from it and knows the new place; what was not taken is untouched.
    await lab.lab.host(2).start();
    await eventually("it reaches the new place", () => lab.reaches(2, "stays", address), patient);
    const has = async () => (await lab.run(2, "c2", "ip", "-br", "address")).stdout.includes(address);
    await eventually("it gave it up", async () => !(await has()), patient);
    await eventually("stays is reached", () => lab.reaches(1, "c1", "stays"), patient);
  });
});

describe("what a daemon that was away comes back to", () => {
  it("a network that is gone leaves no namespace, device or table", async () => {
    await lab.dnet(1, "network", "create", "-d", "overlay", "short");
    await lab.join(3, "s3", ["short"]);
    const { id } = await lab.json<{ id: string }>(1, "network", "info", "short");
    const left = async () =>
      (await lab.lab.host(3).run("sh", "-c", "ls /var/run/docker/netns; nft list tables; ss -Hlnu")).includes(
        id.slice(0, 10),
      );
    expect(await left()).toBe(true);
    await lab.lab.host(3).kill();
    await lab.dnet(1, "service", "unpublish", "-f", "s3.short");
    await lab.dnet(1, "network", "rm", "short");
    expect(await left()).toBe(true);
    await lab.lab.host(3).start();
    await eventually("nothing of the network is left", async () => !(await left()), patient);
    // By the look at the start, or because the store said so first that the endpoint is gone.
    const said =
      /found br0, vxlan1 of ours in \S+, expected none: removed|endpoint s3 was taken from container s3 by another node/;
    await eventually("it is in the log", () => said.test(lab.lab.host(3).log));
    expect(await lab.reaches(3, "c3", "c1")).toBe(true);
    await lab.dnet(3, "container", "rm", "s3");
  });
});

describe("entries of the kernel", () => {
  it("13: that are wrong or foreign are put right within the time of a look; without use, those installed on demand go", async () => {
    const host = lab.lab.host(1);
    appendFileSync(host.configPath, "[overlay]\nrepair = 1\n");
    await host.kill("TERM");
    const [before, words] = [await neighbors(1), (await neighbors(1)).split(" ")];
    // Changed while nobody looks: one points elsewhere, one is nobody's.
    const [ip = "", mac = ""] = [words[0], words[4]];
    await lab.overlay(1, "both", "ip", "neighbor", "replace", ip, "lladdr", "02:42:ff:ff:ff:ff", "dev", "vxlan1");
    await lab.overlay(1, "both", "bridge", "fdb", "add", "02:42:0a:63:63:63", "dev", "vxlan1", "dst", "172.17.0.99");
    await host.start();
    // At the start, or at the first look where the store answered late.
    const asBefore = async () => (await neighbors(1)) === before && !(await fdb(1)).includes("172.17.0.99");
    await eventually("all is as before", asBefore, patient);
    // And again under its eyes, without a packet.
    const log = () => host.log;
    await lab.overlay(1, "both", "ip", "neighbor", "replace", ip, "lladdr", "02:42:ff:ff:ff:ff", "dev", "vxlan1");
    await eventually(
      "it is right",
      async () => (await neighbors(1)).includes(`${ip} dev vxlan1 lladdr ${mac} `),
      patient,
    );
    expect(log()).toMatch(/network both: found .*, expected \d+ entries of endpoints on other hosts: repaired/);
    await lab.overlay(1, "both", "ip", "link", "delete", "vxlan1");
    await eventually("c3 is reached by a new device", () => lab.reaches(1, "c1", "c3"), patient);
    const anew = "network both: found no vxlan1 that is up, expected it: made anew";
    await eventually("it is in the log", () => log().includes(anew));

    await lab.dnet(1, "network", "create", "-d", "overlay", "large");
    for (const each of hosts) await lab.join(each, `l${each}`, ["large"]);
    appendFileSync(host.configPath, "peersAhead = 2\nidle = 2\n");
    await host.kill("TERM");
    const entries = () => lab.overlay(1, "large", "bridge", "fdb", "show", "dev", "vxlan1");
    await host.start();
    await eventually("what nobody uses is gone", async () => !(await entries()).includes(" dst "), patient);
    // The entry goes again soon after the last packet.
    const asked = async () => (await lab.reaches(1, "l1", "l2")) && /dst 172\.17\.0\.4/.test(await entries());
    await eventually("c2 is reached by what was asked for", asked, patient);
    expect(await entries()).not.toMatch(/dst 172\.17\.0\.5/);
    await eventually("and it goes again", async () => !(await entries()).includes(" dst "), patient);
    // The packet that misses is lost; those after it are not.
    expect(await lab.reaches(1, "l1", "l2", "-c", "5", "-i", "0.5")).toBe(true);
  });
});
