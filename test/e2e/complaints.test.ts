import { spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { NetworkInfo } from "../../src/controller/model.ts";
import { parseRequest } from "../../src/ports/port-text.ts";
import { enterOwnHost, eventually, expectNothingLeft, run, shell } from "../own-host.ts";
import { at, connects, Lab, Neighbour } from "./firewall-lab.ts";

/** What users of the original complain about, where only a kernel can show it. docs/complaints.md has the numbers and all the other tests. */

let lab: Lab;
const neighbour = new Neighbour();

beforeAll(async () => {
  enterOwnHost();
  await neighbour.connect();
  lab = await Lab.open();
});
afterEach(() => lab.clear());
afterAll(async () => {
  await lab.close();
  await neighbour.close();
  expectNothingLeft();
});

/** What there is on the host: links, rules without their counters, ports. */
const picture = () => shell("ip -br link | cut -d' ' -f1; nft -s list ruleset; ss -Hltnu | sort");

describe("5, nv 1223, nv 1451, nv 1482: what goes though its namespace went before", () => {
  const published = async (network: NetworkInfo) => {
    const { libnetwork } = lab;
    const ports = ["8080:80", "53:53/udp"].map(parseRequest);
    const sandbox = await libnetwork.createSandbox({ containerId: "c1", ports });
    const endpoint = await libnetwork.createEndpoint(network.id, { name: "svc" });
    await libnetwork.attach(endpoint.id, sandbox.id);
    return { sandbox, endpoint };
  };

  it.each<[string, (key: string) => void]>([
    ["unmounted", (key) => shell(`umount -l ${key}; rm ${key}`)],
    ["unmounted, its file left", (key) => shell(`umount -l ${key}`)],
    ["with another file in its place", (key) => shell(`umount -l ${key}; echo > ${key}`)],
    ["emptied of its interfaces", (key) => at({ enter: `--net=${key}` }, "ip", "link", "delete", "eth0")],
  ])("%s: no rule, link, port or address is left", async (what, damage) => {
    const network = await lab.network("web");
    const before = picture();
    for (const removal of ["container", "service"] as const) {
      const { sandbox, endpoint } = await published(network);
      expect(picture()).not.toBe(before);
      damage(sandbox.key);
      if (removal === "service") await lab.libnetwork.deleteEndpoint(endpoint.id, { force: true });
      const failure = await lab.libnetwork.deleteSandbox(sandbox.id).catch((error: Error) => error.message);
      expect(failure).toEqual(what.startsWith("with another") ? expect.stringContaining("left alone") : undefined);
      expect(lab.libnetwork.sandboxes()).toEqual([]);
      expect(picture()).toBe(before);
      rmSync(sandbox.key, { force: true });
    }
    expect(lab.libnetwork.endpoints()).toEqual([]);
    const next = await lab.libnetwork.createEndpoint(network.id, { name: "next" });
    expect(next.addresses).toEqual(network.subnets.map(({ gateway }) => gateway?.replace(/1\//, "2/")));
    await lab.libnetwork.deleteEndpoint(next.id);
  });

  it("a network whose bridge was deleted by hand", async () => {
    const before = picture();
    const network = await lab.network("web");
    run("ip", "link", "delete", `br-${network.id.slice(0, 12)}`);
    await lab.clear();
    expect(picture()).toBe(before);
  });
});

it("27: rules of removed networks and ports do not come back with a reload", async () => {
  const { libnetwork } = lab;
  const [kept, gone] = [await lab.network("kept"), await libnetwork.createNetwork({ name: "gone" })];
  const sandbox = await libnetwork.createSandbox({ containerId: "c1", ports: [parseRequest("8080:80")] });
  const endpoint = await libnetwork.createEndpoint(gone.id, { name: "svc" });
  await libnetwork.attach(endpoint.id, sandbox.id);
  const rules = () => shell("nft -s list ruleset");
  const bridge = (network: NetworkInfo) => `br-${network.id.slice(0, 12)}`;
  expect(rules()).toContain(bridge(gone));
  expect(rules()).toContain("8080");
  await libnetwork.deleteSandbox(sandbox.id);
  await libnetwork.deleteNetwork(gone.id);
  for (let n = 0; n < 3; n++) {
    shell("nft flush ruleset");
    await eventually("the rules are back", () => rules().includes(bridge(kept)));
    expect(rules()).not.toContain(bridge(gone));
    expect(rules()).not.toContain("8080");
  }
});

it("28, moby 44331, moby 42096, moby 50692: nobody waits for the lock of xtables, and seven containers start meanwhile", async () => {
  const holder = spawn("flock", ["/run/xtables.lock", "sleep", "infinity"], { stdio: "ignore", detached: true });
  const ended = new Promise((resolve) => holder.once("exit", resolve));
  try {
    await eventually(
      "the lock is held",
      () => shell("flock -n /run/xtables.lock true && echo free || echo held") === "held\n",
    );
    const network = await lab.network("web");
    for (let n = 0; n < 7; n++) await lab.sandbox(`c${n}`, network);
    expect(lab.libnetwork.sandboxes()).toHaveLength(7);
  } finally {
    process.kill(-(holder.pid ?? 0), "SIGKILL");
    await ended;
    rmSync("/run/xtables.lock");
  }
});

it("24, moby 4737, moby 22054: the host's own firewall decides about published ports before they are led on", async () => {
  const network = await lab.network("web");
  const { libnetwork } = lab;
  const sandbox = await libnetwork.createSandbox({ containerId: "c1", ports: [parseRequest("8080:80")] });
  const endpoint = await libnetwork.createEndpoint(network.id, { name: "svc" });
  await libnetwork.attach(endpoint.id, sandbox.id);
  await lab.serve({ enter: `--net=${sandbox.key}` });
  const reached = () => connects(neighbour, neighbour.host[4], 8080);
  expect(await reached()).toBe(true);
  // As a firewall that people write: one chain for what comes to the host and through it, closed but for ssh.
  shell(`nft 'table inet admin { chain forward { type filter hook forward priority 0; policy drop;
    ct state established,related accept; tcp dport 22 accept; }; }'`);
  expect(await reached()).toBe(false);
  shell("nft delete table inet admin");
  expect(await reached()).toBe(true);
  await libnetwork.deleteSandbox(sandbox.id);
});
