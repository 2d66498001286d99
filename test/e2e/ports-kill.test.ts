import { afterAll, beforeAll, expect, it } from "vitest";
import { Rest } from "../../bench/rest.ts";
import type { SandboxResource, ServiceResource } from "../../src/api/resources.ts";
import { enterOwnHost, expectNothingLeft, run } from "../own-host.ts";
import { DaemonProcess } from "./dnet.ts";

const kills = 25;
const lanes = 4;

beforeAll(() => enterOwnHost());
afterAll(() => expectNothingLeft());

/** Containers come with ports, join, leave and go, again and again, until the daemon is killed. */
const busyLane = async (rest: Rest, lane: number): Promise<void> => {
  const pick = (n: number) => Math.floor(Math.random() * n);
  const find = async () => {
    const name = `l${lane}-${pick(2)}`;
    const [sandbox] = await rest.call<SandboxResource[]>("GET", `/sandboxes?container-id=${name}`);
    const [service] = await rest.call<ServiceResource[]>("GET", `/services?name=${name}`);
    return { name, sandbox, service };
  };
  for (;;) {
    try {
      const { name, sandbox, service } = await find();
      // The lanes fight for some of the ports.
      const ports = [
        { Proto: 6, Port: 80, HostPort: 8080 + pick(4) },
        { Proto: 17, Port: 53 },
        { Proto: 6, Port: 7000 + 10 * lane, PortEnd: 7004 + 10 * lane, HostPort: 7000 + 10 * lane },
      ];
      const step = pick(5);
      if (!sandbox)
        await rest.call("POST", "/sandboxes", { container_id: name, port_mapping: ports.slice(0, 1 + pick(3)) });
      else if (!service) await rest.call("POST", "/services", { name, network_name: "busy" });
      else if (step === 0) await rest.call("DELETE", `/sandboxes/${sandbox.id}`);
      else if (step === 1) await rest.call("DELETE", `/services/${service.id}`, { force: true });
      else if (!service.sandbox_id)
        await rest.call("POST", `/services/${service.id}/backend`, { sandbox_id: sandbox.id });
      else await rest.call("DELETE", `/services/${service.id}/backend/${service.sandbox_id}`);
    } catch (error) {
      // Refusals are part of the game; a connection that breaks is the kill.
      if (["ECONNREFUSED", "ECONNRESET", "EPIPE", "ENOENT"].includes((error as { code?: string }).code ?? "")) return;
      if ((error as Error).message === "socket hang up") return;
    }
  }
};

const tableName = (): string | undefined => /inet (dnet_[0-9a-f]{8}_ports)/.exec(run("nft", "list", "tables"))?.[1];

/** Elements of the maps, each port by itself: `tcp 8080 > 172.18.0.2 80`. */
const mapped = (): readonly string[] => {
  const table = tableName();
  if (table === undefined) return [];
  const text = run("nft", "list", "table", "inet", table);
  return [...text.matchAll(/(tcp|udp) \. (\d+)(?:-(\d+))? : ([\d.]+)(?: \. (\d+))?/g)].flatMap(
    ([, protocol, first, last = first, address, port]) =>
      Array.from({ length: Number(last) - Number(first) + 1 }, (_, n) => {
        const host = Number(first) + n;
        return `${protocol} ${host} > ${address} ${port ?? host}`;
      }),
  );
};

/** Ports that the daemon is bound to on the loopback device. */
const bound = (pid: number): readonly string[] =>
  run("ss", "-Hltunp")
    .split("\n")
    .flatMap((line) => {
      const found = /^(tcp|udp)\s.*%lo:(\d+)\s.*pid=(\d+)/.exec(line);
      return found && Number(found[3]) === pid ? [`${found[1]} ${found[2]}`] : [];
    });

/** Records, rules and sockets agree. */
const checkAgreement = async (rest: Rest, pid: number): Promise<number> => {
  const services = await rest.call<ServiceResource[]>("GET", "/services");
  const sandboxes = await rest.call<SandboxResource[]>("GET", "/sandboxes");
  const expected = sandboxes.flatMap(({ id, published_ports = [] }) => {
    const address = services.find(({ sandbox_id }) => sandbox_id === id)?.addresses?.[0]?.split("/")[0];
    return published_ports.flatMap(({ protocol, host_port, host_port_end = host_port, port }) =>
      Array.from(
        { length: host_port_end - host_port + 1 },
        (_, n) => `${protocol} ${host_port + n} > ${address} ${port + n}`,
      ),
    );
  });
  const attached = sandboxes.filter(({ id }) => services.some(({ sandbox_id }) => sandbox_id === id));
  for (const { container_id, ports = [], published_ports = [] } of sandboxes) {
    const is = attached.some((other) => other.container_id === container_id);
    expect(published_ports.length > 0, container_id).toBe(is && ports.length > 0);
  }
  expect(mapped().toSorted()).toEqual(expected.toSorted());
  expect(bound(pid).toSorted()).toEqual(expected.map((line) => line.split(" > ")[0]).toSorted());
  expect(tableName() === undefined).toBe(expected.length === 0);
  return expected.length;
};

it(`after each of ${kills} SIGKILLs under load, records, rules and held ports agree`, async () => {
  let daemon = await DaemonProcess.start();
  let rest = new Rest("/run/dnet.sock");
  let seen = 0;
  await rest.call("POST", "/networks", { name: "busy" });
  for (let n = 0; n < kills; n++) {
    const work = Array.from({ length: lanes }, (_, lane) => busyLane(rest, lane));
    // The moment of the kill is what the test varies.
    await new Promise((resolve) => setTimeout(resolve, 100 + Math.random() * 900));
    await daemon.stop("SIGKILL");
    await Promise.all(work);
    rest.close();
    daemon = await DaemonProcess.start();
    rest = new Rest("/run/dnet.sock");
    try {
      seen += await checkAgreement(rest, daemon.pid);
    } catch (error) {
      throw new Error(`after kill ${n + 1}: ${(error as Error).message}\n${daemon.log}`, { cause: error });
    }
  }
  expect(seen).toBeGreaterThan(0);
  for (const { id } of await rest.call<SandboxResource[]>("GET", "/sandboxes"))
    await rest.call("DELETE", `/sandboxes/${id}`);
  for (const { id } of await rest.call<ServiceResource[]>("GET", "/services"))
    await rest.call("DELETE", `/services/${id}`, {});
  expect(await checkAgreement(rest, daemon.pid)).toBe(0);
  for (const { id } of await rest.call<{ id: string }[]>("GET", "/networks"))
    await rest.call("DELETE", `/networks/${id}`);
  rest.close();
  expect(await daemon.stop()).toBe(0);
  console.log(`ports: ${kills} SIGKILLs, ${seen} mapped ports checked`);
}, 300_000);
