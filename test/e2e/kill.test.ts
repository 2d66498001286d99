import { existsSync, readdirSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Rest } from "../../bench/rest.ts";
import type { NetworkResource, SandboxResource, ServiceResource } from "../../src/api/resources.ts";
import { enterOwnHost, expectNothingLeft, inside, run } from "../own-host.ts";
import { DaemonProcess } from "./dnet.ts";

const kills = 100;
const lanes = 4;

beforeAll(() => enterOwnHost());
afterAll(() => expectNothingLeft());

/** Random work on a few names that all lanes share: everything is made, used and removed again and again, in each other's way. */
const busyLane = async (rest: Rest, acknowledged: { count: number }): Promise<void> => {
  const pick = (n: number) => Math.floor(Math.random() * n);
  const list = <T>(path: string) => rest.call<T[]>("GET", path);
  for (;;) {
    const name = `n${pick(8)}`;
    const steps: readonly (() => Promise<unknown>)[] = [
      () => rest.call("POST", "/sandboxes", { container_id: name }),
      () => rest.call("POST", "/services", { name, network_name: "busy" }),
      () => rest.call("POST", "/networks", { name }),
      async () => {
        const [service] = await list<ServiceResource>(`/services?name=${name}`);
        const [sandbox] = await list<SandboxResource>(`/sandboxes?container-id=n${pick(8)}`);
        if (service && sandbox) await rest.call("POST", `/services/${service.id}/backend`, { sandbox_id: sandbox.id });
      },
      async () => {
        const [service] = await list<ServiceResource>(`/services?name=${name}`);
        if (service?.sandbox_id) await rest.call("DELETE", `/services/${service.id}/backend/${service.sandbox_id}`);
      },
      async () => {
        const [service] = await list<ServiceResource>(`/services?name=${name}`);
        if (service) await rest.call("DELETE", `/services/${service.id}`, { force: pick(2) === 0 });
      },
      async () => {
        const [sandbox] = await list<SandboxResource>(`/sandboxes?container-id=${name}`);
        if (sandbox) await rest.call("DELETE", `/sandboxes/${sandbox.id}`);
      },
      async () => {
        const [network] = await list<NetworkResource>(`/networks?name=${name}`);
        if (network) await rest.call("DELETE", `/networks/${network.id}`);
      },
    ];
    try {
      await steps[pick(steps.length)]?.();
      acknowledged.count++;
    } catch (error) {
      // Refusals are part of the game; a connection that breaks is the kill.
      if (["ECONNREFUSED", "ECONNRESET", "EPIPE", "ENOENT"].includes((error as { code?: string }).code ?? "")) return;
      if ((error as Error).message === "socket hang up") return;
    }
  }
};

interface Link {
  readonly ifname: string;
  readonly ifalias?: string;
  readonly master?: string;
}

/** Sorted; none where the kill came before the first was made. */
const namesIn = (directory: string): readonly string[] => (existsSync(directory) ? readdirSync(directory).sort() : []);

/** Records and kernel agree, in both directions. */
const checkAgreement = async (rest: Rest): Promise<void> => {
  const networks = await rest.call<NetworkResource[]>("GET", "/networks");
  const services = await rest.call<ServiceResource[]>("GET", "/services");
  const sandboxes = await rest.call<SandboxResource[]>("GET", "/sandboxes");
  const links = (JSON.parse(run("ip", "-j", "link")) as Link[]).filter(({ ifname }) => ifname !== "lo");
  const bridges = new Map(
    networks.map((network) => [
      network.options?.["com.docker.network.bridge.name"] ?? `br-${network.id.slice(0, 12)}`,
      network.id,
    ]),
  );
  const attached = services.filter(({ sandbox_id }) => sandbox_id !== undefined);
  const veths = new Map(attached.map(({ id }) => [`veth${id.slice(0, 11)}`, id]));
  expect(links.map(({ ifname }) => ifname).sort()).toEqual([...bridges.keys(), ...veths.keys()].sort());
  for (const { ifname, ifalias = "" } of links)
    expect(ifalias.split(":")[2]).toBe(bridges.get(ifname) ?? veths.get(ifname));
  const ids = sandboxes.map(({ id }) => id).sort();
  expect(namesIn("/run/docker/netns")).toEqual(ids.map((id) => id.slice(0, 12)));
  expect(namesIn("/var/lib/docker/network/files")).toEqual(ids);
  for (const { id, key } of sandboxes) {
    const own = attached.filter(({ sandbox_id }) => sandbox_id === id);
    const shown = (
      JSON.parse(inside(key, "ip", "-j", "-4", "address")) as {
        ifname: string;
        addr_info: { local: string; prefixlen: number }[];
      }[]
    )
      .filter(({ ifname }) => ifname !== "lo")
      .map(({ ifname, addr_info }) => [ifname, ...addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`)]);
    expect(shown.sort()).toEqual(own.map(({ interface: device, addresses = [] }) => [device, ...addresses]).sort());
  }
  const addresses = services.flatMap(({ network_id, addresses: of = [] }) =>
    of.map((address) => `${network_id} ${address}`),
  );
  expect(new Set(addresses).size).toBe(addresses.length);
  const [table = ""] = /\bdnet_[0-9a-f]{8}$/m.exec(run("nft", "list", "tables")) ?? [];
  const set = run("nft", "list", "set", "inet", table, "bridges");
  expect(
    [...set.matchAll(/"([^"]+)"/g)]
      .map(([, name]) => name)
      .filter((name) => name !== "bridges of our networks")
      .sort(),
  ).toEqual([...bridges.keys()].sort());
};

it(`after each of ${kills} SIGKILLs under load, a start makes records and kernel agree`, async () => {
  const acknowledged = { count: 0 };
  const began = performance.now();
  let starting = 0;
  let daemon = await DaemonProcess.start();
  let rest = new Rest("/run/dnet.sock");
  await rest.call("POST", "/networks", { name: "busy" });
  for (let n = 0; n < kills; n++) {
    const work = Array.from({ length: lanes }, () => busyLane(rest, acknowledged));
    // The moment of the kill is what the test varies.
    await new Promise((resolve) => setTimeout(resolve, 20 + Math.random() * 250));
    await daemon.stop("SIGKILL");
    await Promise.all(work);
    rest.close();
    // Refusals, however many: what is in each other's way is told so, and nothing fails.
    expect(daemon.log).not.toContain("level=error");
    const start = performance.now();
    daemon = await DaemonProcess.start();
    starting += performance.now() - start;
    rest = new Rest("/run/dnet.sock");
    try {
      await checkAgreement(rest);
    } catch (error) {
      throw new Error(`after kill ${n + 1}: ${(error as Error).message}\n${daemon.log}`, { cause: error });
    }
  }
  for (const { id } of await rest.call<SandboxResource[]>("GET", "/sandboxes"))
    await rest.call("DELETE", `/sandboxes/${id}`);
  for (const { id } of await rest.call<ServiceResource[]>("GET", "/services"))
    await rest.call("DELETE", `/services/${id}`, {});
  for (const { id } of await rest.call<NetworkResource[]>("GET", "/networks"))
    await rest.call("DELETE", `/networks/${id}`);
  await checkAgreement(rest);
  rest.close();
  expect(await daemon.stop()).toBe(0);
  const seconds = ((performance.now() - began) / 1000).toFixed(0);
  console.log(
    `daemon: ${kills} SIGKILLs, ${acknowledged.count} operations acknowledged, 0 differences, mean start ${(starting / kills).toFixed(0)} ms, ${seconds} s`,
  );
}, 600_000);
