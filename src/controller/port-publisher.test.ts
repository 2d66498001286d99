import { describe, expect, it } from "vitest";
import { FakeKernel } from "../../test/fakes/fake-kernel.ts";
import { FakePortSockets } from "../../test/fakes/fake-port-sockets.ts";
import { type Opened, openController } from "../../test/fakes/open-controller.ts";
import { option } from "../drivers/options.ts";
import { internal } from "../errors.ts";
import { SparseAddressSet } from "../ipam/default/sparse-address-set.ts";
import type { Operation } from "../linux/plan.ts";
import { parseIp } from "../net/ip.ts";
import { parsePrefix } from "../net/prefix.ts";
import { parseRequest, publishedText } from "../ports/port-text.ts";
import { MemoryStore } from "../store/memory/memory-store.ts";
import { Locks } from "./locks.ts";
import type { CreateNetwork } from "./model.ts";
import { PortPublisher } from "./port-publisher.ts";
import { keys, type SandboxRecord } from "./records.ts";
import { State } from "./state.ts";

const opened = async (): Promise<Opened & { readonly sockets: FakePortSockets }> => {
  const sockets = new FakePortSockets();
  return Object.assign(await openController({ portSockets: sockets }), { sockets });
};

/** A network with an endpoint. */
const network = async ({ libnetwork }: Opened, name: string, request: Partial<CreateNetwork> = {}) => {
  const { id } = await libnetwork.createNetwork({ name, ...request });
  return { id, endpoint: await libnetwork.createEndpoint(id, { name }) };
};

const sandbox = ({ libnetwork }: Opened, containerId: string, ...ports: readonly string[]) =>
  libnetwork.createSandbox({ containerId, ports: ports.map(parseRequest) });

/** What nft was told of elements since the last question, the rules around them left out. */
const elements = ({ kernel }: Opened): readonly string[] =>
  kernel.applied
    .splice(0)
    .filter((operation) => operation.op === "nft.apply")
    .flatMap(({ script }) => script.split("\n"))
    .filter((line) => / element .*_ports /.test(line) || /^delete table .*_ports/.test(line))
    .map((line) => line.replace(/inet dnet_[0-9a-f]{8}_ports ?/, "").trim());

const flushed = (operations: readonly Operation[]) =>
  operations.flatMap((operation) => (operation.op === "conntrack.flush" ? operation.flows : []));

describe("published ports of a sandbox", () => {
  it("are taken when it joins a network that leads outside, and given back when it leaves", async () => {
    const host = await opened();
    const { endpoint } = await network(host, "web");
    const { id } = await sandbox(host, "c1", "8080:80", "53/udp");
    expect(host.sockets.taken.size).toBe(0);
    elements(host);
    await host.libnetwork.attach(endpoint.id, id);
    expect([...host.sockets.taken.keys()]).toEqual(["tcp 8080", "udp 40000"]);
    const { ports, published } = host.libnetwork.sandbox(id);
    expect(published.map(publishedText)).toEqual([
      "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
      "0.0.0.0:40000->53/udp, [::]:40000->53/udp",
    ]);
    expect(ports).toMatchObject([{ hostPort: 8080 }, { protocol: "udp" }]);
    expect(host.sockets.targets.get(8080)).toEqual({ address4: "172.17.0.2", address6: undefined });
    // Datagrams may be tracked already; new TCP connections ask the rules.
    expect(flushed(host.kernel.applied)).toEqual([
      { protocol: "udp", family: 4, port: 40_000, count: 1, unless: { address: "172.17.0.2", port: 53 } },
    ]);
    expect(elements(host)).toEqual([
      "add element port_any4 { tcp . 8080 : 172.17.0.2 . 80, udp . 40000 : 172.17.0.2 . 53 }",
      "add element hairpin4 { 172.17.0.0/16 . 172.17.0.2 }",
    ]);

    await host.libnetwork.detach(endpoint.id, id);
    expect(host.sockets.taken.size).toBe(0);
    expect(host.libnetwork.sandbox(id).published).toEqual([]);
    expect(flushed(host.kernel.applied).map(({ protocol, unless }) => [protocol, unless])).toEqual([
      ["tcp", undefined],
      ["udp", undefined],
    ]);
    expect(elements(host)).toEqual(["delete table"]);
    // The same port again, as it is free.
    await host.libnetwork.attach(endpoint.id, id);
    expect(host.libnetwork.sandbox(id).published).toEqual(published);
    await host.libnetwork.deleteSandbox(id);
    expect(host.sockets.taken.size).toBe(0);
  });

  it.each([1, 2])(
    "are there where it is attached, though the process dies after write %i of the attachment",
    async (nth) => {
      const host = await opened();
      const { endpoint } = await network(host, "web");
      const { id } = await sandbox(host, "c1", "8080:80");
      let writes = 0;
      await new Promise<void>((resolve) => {
        host.stores.local.fault = (point) => {
          if (point !== "after-transact" || ++writes !== nth) return;
          resolve();
          return new Promise(() => undefined);
        };
        void host.libnetwork.attach(endpoint.id, id);
      });
      host.stores.local.fault = () => undefined;
      host.sockets.taken.clear();
      await host.reopen();
      const attached = host.libnetwork.endpoint(endpoint.id).sandboxId !== undefined;
      expect(attached).toBe(nth === 2);
      expect(host.libnetwork.sandbox(id).published.map(publishedText)).toEqual(
        attached ? ["0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"] : [],
      );
      expect([...host.sockets.taken.keys()]).toEqual(attached ? ["tcp 8080"] : []);
    },
  );

  it("are given back where the start fails", async () => {
    const host = await opened();
    const { endpoint } = await network(host, "web");
    const { id } = await sandbox(host, "c1", "8080:80");
    await host.libnetwork.attach(endpoint.id, id);
    host.sockets.taken.clear();
    Object.assign(host.stores.local, { synced: () => Promise.reject(internal("test", "EIO")) });
    await expect(host.reopen()).rejects.toThrow("EIO");
    expect(host.sockets.taken.size).toBe(0);
  });

  it("follow the default route of each family", async () => {
    const host = await opened();
    const one = await network(host, "one");
    const two = await network(host, "two", { ipv6: true });
    const { id } = await sandbox(host, "c1", "8080:80");
    await host.libnetwork.attach(one.endpoint.id, id);
    elements(host);
    await host.libnetwork.attach(two.endpoint.id, id);
    const six = host.libnetwork.endpoint(two.endpoint.id).addresses[1]?.split("/")[0];
    expect(host.sockets.targets.get(8080)).toEqual({ address4: "172.17.0.2", address6: six });
    expect(elements(host).filter((line) => line.startsWith("add element port"))).toContain(
      `add element port_any6 { tcp . 8080 : ${six} . 80 }`,
    );
    await host.libnetwork.detach(one.endpoint.id, id);
    expect(host.sockets.targets.get(8080)).toEqual({ address4: "172.18.0.2", address6: six });
    expect([...host.sockets.taken.keys()]).toEqual(["tcp 8080"]);
    await host.libnetwork.deleteEndpoint(two.endpoint.id, { force: true });
    expect(host.sockets.taken.size).toBe(0);
  });

  it("lead nowhere from networks that the host's NAT does not reach", async () => {
    const host = await opened();
    const back = await network(host, "back", { internal: true });
    const { id } = await sandbox(host, "c1", "8080:80");
    elements(host);
    await host.libnetwork.attach(back.endpoint.id, id);
    expect(host.sockets.taken.size).toBe(0);
    expect(elements(host)).toEqual([]);
  });

  it("are bound to the network's address where none was asked for", async () => {
    const host = await opened();
    const one = await network(host, "one", { options: { [option.hostBindingIpv4]: "192.0.2.1" } });
    const two = await network(host, "two");
    const { id } = await sandbox(host, "c1", "8080:80", "192.0.2.9:8081:81");
    await host.libnetwork.attach(one.endpoint.id, id);
    await host.libnetwork.attach(two.endpoint.id, id);
    const shown = () => host.libnetwork.sandbox(id).published.map(publishedText);
    expect(shown()).toEqual(["192.0.2.1:8080->80/tcp", "192.0.2.9:8081->81/tcp"]);
    await host.libnetwork.detach(one.endpoint.id, id);
    expect(shown()).toEqual(["0.0.0.0:8080->80/tcp, [::]:8080->80/tcp", "192.0.2.9:8081->81/tcp"]);
    // The next network cannot have them: the sandbox leaves all the same.
    await host.libnetwork.attach(one.endpoint.id, id);
    host.sockets.fault = () => {
      throw internal("host-port", "no");
    };
    await host.libnetwork.detach(two.endpoint.id, id);
    expect(shown()).toEqual([]);
    expect(host.lines.at(-1)?.message).toContain("ports of container c1 are not published any more: no");
    expect(host.sockets.taken.size).toBe(0);
  });

  it("that another sandbox has are refused with its name, and nothing is left of the try", async () => {
    const host = await opened();
    const one = await network(host, "one");
    const first = await sandbox(host, "c1", "8000-8009:8000-8009");
    await host.libnetwork.attach(one.endpoint.id, first.id);
    const taken = [...host.sockets.taken.keys()];
    const second = await sandbox(host, "c2", "127.0.0.1:8005:80");
    const other = await host.libnetwork.createEndpoint(one.id, { name: "other" });
    await expect(host.libnetwork.attach(other.id, second.id)).rejects.toMatchObject({
      kind: "forbidden",
      code: "port-allocated",
      message: "Bind for 127.0.0.1:8005 failed: port is already allocated",
      hint: "container c1 has 8005/tcp; choose another host port, or none: then one is chosen for you",
    });
    expect(host.libnetwork.endpoint(other.id)).not.toHaveProperty("sandboxId");
    expect([...host.sockets.taken.keys()]).toEqual(taken);
    // Another program has one: the socket says so.
    host.sockets.taken.set("tcp 9000", "nginx");
    const third = await sandbox(host, "c3", "9001:80", "9000:80");
    await expect(host.libnetwork.attach(other.id, third.id)).rejects.toMatchObject({ code: "port-in-use" });
    expect(host.libnetwork.endpoint(other.id)).not.toHaveProperty("sandboxId");
    expect(host.sockets.taken.has("tcp 9001")).toBe(false);
  });

  it("are given back when the attachment fails after them", async () => {
    const host = await opened();
    const { endpoint } = await network(host, "web");
    const { id } = await sandbox(host, "c1", "8080:80");
    host.kernel.fault = (operation) => {
      if (operation.op === "nft.apply") throw internal("nft", "no");
    };
    await expect(host.libnetwork.attach(endpoint.id, id)).rejects.toMatchObject({ code: "nft" });
    host.kernel.fault = () => undefined;
    expect(host.sockets.taken.size).toBe(0);
    expect(host.libnetwork.sandbox(id).published).toEqual([]);
    expect(host.libnetwork.endpoint(endpoint.id)).not.toHaveProperty("sandboxId");
    await host.libnetwork.attach(endpoint.id, id);
    expect([...host.sockets.taken.keys()]).toEqual(["tcp 8080"]);
  });

  it("are there again after a start, from the records alone, and what another program took is missed", async () => {
    const host = await opened();
    const { endpoint } = await network(host, "web");
    const { id } = await sandbox(host, "c1", "8080:80", "80");
    await host.libnetwork.attach(endpoint.id, id);
    const before = host.libnetwork.sandbox(id).published;
    host.sockets.taken.clear();
    host.sockets.taken.set("tcp 8080", "nginx");
    elements(host);
    await host.reopen();
    const rules = elements(host);
    expect(host.libnetwork.sandbox(id).published).toEqual(before);
    expect([...host.sockets.taken]).toEqual([
      ["tcp 8080", "nginx"],
      ["tcp 40000", "dnet"],
    ]);
    expect(rules.slice(-3)).toEqual([
      "delete table",
      "add element port_any4 { tcp . 8080 : 172.17.0.2 . 80, tcp . 40000 : 172.17.0.2 . 80 }",
      "add element hairpin4 { 172.17.0.0/16 . 172.17.0.2 }",
    ]);
    expect(host.lines.filter(({ level }) => level === "error").map(({ message }) => message)).toEqual([
      "port 8080:80/tcp of container c1 is not held: failed to bind host port 8080/tcp: address already in use",
    ]);
    await host.libnetwork.close();
    expect([...host.sockets.taken.keys()]).toEqual(["tcp 8080"]);
  });

  it.each(["before", "after"])(
    "are held once, also where a network is joined %s a start has read what is published",
    async (when) => {
      const [sockets, kernel, store] = [new FakePortSockets(), new FakeKernel(), new MemoryStore()];
      const state = new State({ stores: { local: store, global: store }, newAddressSet: () => new SparseAddressSet() });
      const lines: string[] = [];
      const log = (_level: string, message: string) => void lines.push(message);
      const publisher = new PortPublisher({ state, kernel, table: "t_ports", sockets, locks: new Locks(), log });
      const record: SandboxRecord = {
        ...{ version: 1, id: "1".repeat(64), container: "c1", hostName: "", domainName: "", dns: [], dnsSearch: [] },
        ...{ dnsOptions: [], extraHosts: [], host: false, created: new Date(0).toISOString() },
        ...{ ports: ["8080:80/tcp"], published: ["8080:80/tcp"] },
      };
      await state.commit("local", { puts: [{ key: keys.sandbox(record.id), value: record }] });
      const target = (address: string) => ({ 4: { address: parseIp(address), subnet: parsePrefix("172.18.0.0/16") } });
      const join = async (address: string): Promise<void> => {
        const change = await publisher.prepare(record, target(address));
        await kernel.apply(change.plan());
        await change.settle();
      };
      if (when === "before") await join("172.18.0.2");
      publisher.load([{ sandbox: record, targets: target("172.18.0.2") }]);
      if (when === "after") await join("172.18.0.3");
      await publisher.restore();
      expect([...sockets.taken.keys()]).toEqual(["tcp 8080"]);
      expect([publisher.missing, lines]).toEqual([[], []]);
      await publisher.close();
      expect(sockets.taken.size).toBe(0);
    },
  );

  it("are told how they are led on, and why", async () => {
    const [sockets, kernel, store] = [new FakePortSockets(), new FakeKernel(), new MemoryStore()];
    const state = new State({ stores: { local: store, global: store }, newAddressSet: () => new SparseAddressSet() });
    const log = () => undefined;
    const publisher = new PortPublisher({ state, kernel, table: "t_ports", sockets, locks: new Locks(), log });
    const record: SandboxRecord = {
      version: 1,
      id: "1".repeat(64),
      container: "c1",
      hostName: "",
      domainName: "",
      dns: [],
      dnsSearch: [],
      dnsOptions: [],
      extraHosts: [],
      ports: ["8000-8009:8000-8009/tcp", "127.0.0.1:9000:90/udp", "203.0.113.1:9001:91/tcp"],
      host: false,
      created: new Date(0).toISOString(),
    };
    await state.commit("local", { puts: [{ key: keys.sandbox(record.id), value: record }] });
    const target = (address: string, subnet: string) => ({ address: parseIp(address), subnet: parsePrefix(subnet) });
    const change = await publisher.prepare(record, {
      4: target("172.18.0.2", "172.18.0.0/16"),
      6: target("fd00::2", "fd00::/64"),
    });
    expect(publisher.ruleset()).not.toContain("8000-8009");
    await kernel.apply(change.plan());
    await change.settle();
    expect(publisher.table).toBe("inet t_ports");
    expect(publisher.ruleset()).toContain("tcp . 8000-8009 : fd00::2");
    const told = (port: number, protocol: "tcp" | "udp") =>
      (publisher.explainPort(port, protocol)?.rules ?? []).map(({ chain, reason }) => `${chain}: ${reason}`);
    const loopback = "clients on the loopback are the daemon's to serve: no sandbox sees 127.0.0.1 (CVE-2021-20199)";
    expect(told(8003, "tcp")).toEqual([
      "prerouting: only what is meant for this host: traffic in transit is nobody's (CVE-2025-67499)",
      "output: only what is meant for this host: traffic in transit is nobody's (CVE-2025-67499)",
      `publish4: ${loopback}`,
      "publish4: range_any4 leads it to 172.18.0.2 port 8003 of container c1",
      "postrouting: a neighbour in the sandbox's network would be answered past the host",
      `publish6: ${loopback}`,
      "publish6: range_any6 leads it to fd00::2 port 8003 of container c1",
      "postrouting: a neighbour in the sandbox's network would be answered past the host",
      "relay: it serves clients on the loopback itself, and leads them to container c1",
    ]);
    expect(told(9000, "udp")).toHaveLength(1);
    expect(told(9001, "tcp")[3]).toBe("publish4: port_one4 leads it to 172.18.0.2 port 91 of container c1");
    expect([...told(8003, "udp"), ...told(8010, "tcp"), ...told(7999, "tcp")]).toEqual([]);
  });

  it("need a firewall", async () => {
    const host = await openController({ firewall: "none" });
    await expect(sandbox(host, "c1", "80")).rejects.toMatchObject({ code: "no-ports", kind: "not-implemented" });
    await expect(
      host.libnetwork.createSandbox({ containerId: "c1", dns: [parseIp("9.9.9.9")] }),
    ).resolves.toBeDefined();
  });
});
