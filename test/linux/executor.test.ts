import { closeSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { NetworkError } from "../../src/errors.ts";
import { describe as commandOf } from "../../src/linux/describe.ts";
import type { Observed, ObservedLink } from "../../src/linux/kernel.ts";
import { hostNamespace, inversePlan, type LinkSpec, type Operation, type Plan, plan } from "../../src/linux/plan.ts";
import { WorkerKernel } from "../../src/linux/worker-kernel.ts";
import { parseIp } from "../../src/net/ip.ts";
import { parseMac } from "../../src/net/mac.ts";
import { parseInterfaceAddress, parsePrefix } from "../../src/net/prefix.ts";
import { enterOwnHost, expectNothingLeft, inside, run, shell } from "../own-host.ts";

const A = "/run/docker/netns/aaaa";
const B = "/run/docker/netns/bbbb";
/** The namespace whose stack carries what the VXLAN device of a namespace sends. */
const underlayOf = (namespace: string): string => `${namespace}u`;
let kernel: WorkerKernel;
let changes: string[] = [];

beforeAll(() => {
  enterOwnHost();
  kernel = new WorkerKernel({ onOperation: (operation, outcome) => changes.push(`${outcome} ${operation.op}`) });
});
afterEach(async () => {
  await kernel.teardown(
    plan(
      { op: "namespace.delete", path: A },
      { op: "namespace.delete", path: B },
      { op: "namespace.delete", path: underlayOf(A) },
      { op: "namespace.delete", path: underlayOf(B) },
      ...["br0", "veth0", "br1"].map((name): Operation => ({ op: "link.delete", namespace: hostNamespace, name })),
      { op: "nft.apply", namespace: hostNamespace, script: "add table inet t\ndelete table inet t\n" },
    ),
  );
  changes = [];
  expectNothingLeft();
});
afterAll(() => kernel.close());

const redirect = { table: "t_dns", address: parseIp("127.0.0.11"), port: 53, udp: 40001, tcp: 40002 };

/** Every kind of operation that this kernel has, in a namespace. */
const everything = (namespace: string): Plan =>
  plan(
    { op: "namespace.add", path: underlayOf(namespace) },
    { op: "namespace.add", path: namespace },
    { op: "sysctl.set", namespace, key: "net/ipv4/ip_forward", value: "1" },
    {
      op: "link.add",
      namespace,
      link: {
        kind: "bridge",
        name: "br0",
        mtu: 1400,
        mac: parseMac("02:42:0a:01:00:01"),
        alias: "dnet:test:1",
        multicastSnooping: false,
        up: true,
      },
    },
    { op: "address.add", namespace, device: "br0", address: parseInterfaceAddress("10.1.0.1/24") },
    { op: "address.add", namespace, device: "br0", address: parseInterfaceAddress("fd00:1::1/64"), nodad: true },
    {
      op: "link.add",
      namespace,
      link: {
        kind: "vxlan",
        name: "vxlan1",
        underlay: underlayOf(namespace),
        alias: "dnet:test:1",
        vni: 256,
        port: 4789,
        local: parseIp("10.1.0.1"),
        proxy: true,
        l2miss: true,
        l3miss: true,
        learning: false,
        mac: parseMac("02:42:0a:01:00:09"),
        master: "br0",
        bridgePort: { learning: false, flood: true },
        up: true,
      },
    },
    {
      op: "fdb.add",
      namespace,
      device: "vxlan1",
      mac: parseMac("02:42:0a:01:00:03"),
      destination: parseIp("10.9.0.2"),
    },
    { op: "neighbor.add", namespace, device: "br0", ip: parseIp("10.1.0.3"), mac: parseMac("02:42:0a:01:00:03") },
    { op: "neighbor.add", namespace, device: "br0", ip: parseIp("fd00:1::3"), mac: parseMac("02:42:0a:01:00:03") },
    {
      op: "link.add",
      namespace,
      link: {
        kind: "veth",
        name: "veth0",
        mac: parseMac("02:42:0a:01:00:07"),
        mtu: 1400,
        master: "br0",
        bridgePort: { learning: false, flood: false },
        up: true,
        peer: { name: "eth0", namespace, mac: parseMac("02:42:0a:01:00:05"), mtu: 1400 },
      },
    },
    { op: "fdb.add", namespace, device: "veth0", mac: parseMac("02:42:0a:01:00:05") },
    { op: "link.set", namespace, name: "eth0", set: { up: true } },
    {
      op: "link.add",
      namespace,
      link: { kind: "macvlan", name: "mv0", parent: "eth0", mode: "bridge", mac: parseMac("02:42:0a:01:00:08") },
    },
    {
      op: "route.add",
      namespace,
      route: { to: parsePrefix("10.7.0.0/16"), via: parseIp("10.1.0.9"), device: "br0", metric: 7 },
    },
    { op: "route.add", namespace, route: { to: parsePrefix("10.8.0.0/16"), device: "br0", onLink: true } },
    { op: "route.add", namespace, route: { to: parsePrefix("0.0.0.0/0"), via: parseIp("10.1.0.9"), device: "br0" } },
    { op: "rule.add", namespace, rule: { priority: 100, table: 300, from: parsePrefix("10.1.0.0/24") } },
    { op: "nft.apply", namespace, script: "table inet t {\n  chain c {\n  }\n}\n", undo: "delete table inet t\n" },
    { op: "nft.redirect", namespace, redirect },
  );

/** What a namespace holds, in the words of `ip`, without what differs by nature (indexes, times). */
const picture = (namespace: string): unknown => {
  const json = (...args: readonly string[]) =>
    JSON.parse(inside(namespace, ...(args as [string, ...string[]])) || "[]");
  const strip = (value: unknown): unknown =>
    Array.isArray(value)
      ? value.map(strip)
      : typeof value === "object" && value !== null
        ? Object.fromEntries(
            Object.entries(value)
              .filter(
                ([key]) =>
                  !/ifindex|link_index|timer|gc_|root_id|bridge_id|link_netnsid|linkNetNsId|_life_time|used|updated|hello|^operstate$|confirmed|flush/.test(
                    key,
                  ),
              )
              .map(([key, inner]) => [key, strip(inner)]),
          )
        : value;
  return strip({
    links: json("ip", "-j", "-d", "link"),
    addresses: json("ip", "-j", "addr").map((link: { ifname: string; addr_info: { scope: string }[] }) => ({
      name: link.ifname,
      addresses: link.addr_info.filter(({ scope }) => scope !== "link"),
    })),
    routes: json("ip", "-j", "-N", "route"),
    rules: json("ip", "-j", "-N", "rule"),
    neighbors: json("ip", "-j", "neigh", "show", "nud", "permanent"),
    fdb: json("bridge", "-j", "fdb", "show"),
    forward: inside(namespace, "sysctl", "-n", "net.ipv4.ip_forward"),
    nft: inside(namespace, "nft", "list", "ruleset"),
  });
};

describe("executor", () => {
  it("does what the equivalent commands of ip, bridge, sysctl and nft do", async () => {
    await kernel.apply(everything(A));
    shell(
      everything(B)
        .map((operation) => commandOf(operation))
        .join("\n"),
    );
    expect(picture(A)).toEqual(picture(B));
  });

  it("may apply a plan twice: the second time changes nothing", async () => {
    await kernel.apply(everything(A));
    const before = picture(A);
    changes = [];
    const again = plan(...everything(A).filter(({ op }) => op !== "nft.apply"));
    await kernel.apply(again);
    expect(picture(A)).toEqual(before);
    expect(changes.filter((line) => !/link.set|neighbor|fdb|redirect/.test(line))).toEqual([]);
  });

  it("gives a redirect's ports to sockets in the place of earlier ones, others where they are taken, and flows follow", async () => {
    const address = parseIp("127.0.0.11");
    const requests = (["udp", "tcp"] as const).map((protocol) => ({
      ...{ protocol, address, port: 0, redirectedBy: redirect },
    }));
    const open = async () => {
      const [udp, tcp] = await kernel.openSockets(A, requests);
      const led = [udp?.redirected, tcp?.redirected];
      return { udp: udp?.port ?? 0, tcp: tcp?.port ?? 0, fds: [udp?.fd ?? 0, tcp?.fd ?? 0], led };
    };
    const lead = ({ udp, tcp }: { readonly udp: number; readonly tcp: number }) =>
      kernel
        .apply(plan({ op: "nft.redirect", namespace: A, redirect: { ...redirect, udp, tcp } }))
        .then((done) => done.length > 0);
    await kernel.apply(plan({ op: "namespace.add", path: A }));
    const first = await open();
    expect(first.led).toEqual([undefined, undefined]);
    expect(await lead(first)).toBe(true);
    expect(await lead(first)).toBe(false);
    // A client that asks on and on from the same port.
    const program = `const socket = require("node:dgram").createSocket("udp4");
      socket.bind(5000, () => socket.send("x", 53, "127.0.0.11", () => socket.close()));`;
    const ask = () => inside(A, process.execPath, "-e", program);
    const tracked = () => inside(A, "conntrack", "-L", "-p", "udp", "--sport", "5000");
    ask();
    expect(tracked()).toContain(`sport=${first.udp}`);
    for (const fd of first.fds) closeSync(fd);

    const second = await open();
    expect([second.udp, second.tcp]).toEqual([first.udp, first.tcp]);
    // The redirect leads to them: nobody need set it.
    expect(second.led).toEqual([true, true]);
    // These are not closed: others have them when a third one comes.
    const third = await open();
    expect(third.udp).not.toBe(first.udp);
    expect(third.tcp).not.toBe(first.tcp);
    expect(third.led).toEqual([undefined, undefined]);
    expect(await lead(third)).toBe(true);
    expect(tracked()).toBe("");
    ask();
    expect(tracked()).toContain(`sport=${third.udp}`);

    inside(A, "nft", "add", "rule", "ip", redirect.table, "output", "drop");
    for (const fd of third.fds) closeSync(fd);
    const fourth = await open();
    // Its ports are right, what else is in the table is not.
    expect(fourth).toMatchObject({ udp: third.udp, tcp: third.tcp, led: [undefined, undefined] });
    expect(await lead(fourth)).toBe(true);
    expect(inside(A, "nft", "list", "ruleset")).not.toContain("drop");
    const other =
      'nft list ruleset | sed "s/dport 53/dport 54/" >/run/other.nft; nft flush ruleset; nft -f /run/other.nft';
    inside(A, "sh", "-ec", `${other}; rm /run/other.nft`);
    // Alike, but of another port.
    expect(await lead(fourth)).toBe(true);
    expect(inside(A, "nft", "list", "ruleset")).not.toContain("dport 54");
    for (const fd of [...second.fds, ...fourth.fds]) closeSync(fd);
  });

  it("sets what is not so, and tells it again only where that is asked for", async () => {
    await kernel.apply(
      plan(
        { op: "namespace.add", path: A },
        { op: "link.add", namespace: A, link: { kind: "bridge", name: "br0", mtu: 1400 } },
      ),
    );
    const set = { up: true, mtu: 1400 };
    const change = { op: "link.set", namespace: A, name: "br0", set } as const;
    expect(await kernel.apply(plan(change))).toEqual([change]);
    expect(await kernel.apply(plan(change))).toEqual([]);
    expect(await kernel.apply(plan({ ...change, again: true }))).toHaveLength(1);
    inside(A, "ip", "link", "set", "br0", "mtu", "1300");
    expect(await kernel.apply(plan(change))).toEqual([change]);
    expect(inside(A, "ip", "-o", "link", "show", "br0")).toMatch(/UP.* mtu 1400 /);
  });

  it("tells why the kernel refuses a redirect", async () => {
    await kernel.apply(plan({ op: "namespace.add", path: A }));
    const wrong = { ...redirect, table: "t".repeat(300) };
    await expect(kernel.apply(plan({ op: "nft.redirect", namespace: A, redirect: wrong }))).rejects.toMatchObject({
      errno: 34,
      message: expect.stringContaining("numerical result out of range") as string,
    });
    expect(inside(A, "nft", "list", "ruleset")).toBe("");
  });

  it("undoes in reverse what it did when a step fails, and says which and why", async () => {
    const bad: Operation = {
      op: "address.add",
      namespace: hostNamespace,
      device: "nosuch0",
      address: parseInterfaceAddress("10.1.0.1/24"),
    };
    const failing = plan(
      { op: "sysctl.set", namespace: hostNamespace, key: "net/ipv4/ip_forward", value: "1" },
      { op: "link.add", namespace: hostNamespace, link: { kind: "bridge", name: "br1", alias: "dnet:test:9" } },
      ...everything(A),
      bad,
    );
    await expect(kernel.apply(failing)).rejects.toMatchObject({
      errno: 19,
      message: "ip address add 10.1.0.1/24 broadcast + dev nosuch0: there is no link nosuch0",
    });
    expect(run("sysctl", "-n", "net.ipv4.ip_forward").trim()).toBe("0");
    expectNothingLeft();
  });

  it("takes everything back by the inverse plan", async () => {
    const inner = plan(...everything(A).filter(({ op }) => op !== "namespace.add" && op !== "sysctl.set"));
    await kernel.apply(plan(...everything(A).filter(({ op }) => op === "namespace.add")));
    const before = picture0(A);
    await kernel.apply(inner);
    await kernel.teardown(inversePlan(inner));
    expect(picture0(A)).toEqual(before);
  });

  it("adopts its own link, repairs it, and refuses another's", async () => {
    const link = { kind: "bridge", name: "br0", alias: "dnet:test:1", mtu: 1400, up: true } as const;
    await kernel.apply(plan({ op: "link.add", namespace: hostNamespace, link }));
    run("ip", "link", "set", "br0", "mtu", "1300", "down");
    await kernel.apply(plan({ op: "link.add", namespace: hostNamespace, link }));
    expect((await kernel.observe(hostNamespace))?.links.find(({ name }) => name === "br0")).toMatchObject({
      mtu: 1400,
      up: true,
      alias: "dnet:test:1",
    });
    const other = { ...link, alias: "dnet:other:1" };
    await expect(kernel.apply(plan({ op: "link.add", namespace: hostNamespace, link: other }))).rejects.toMatchObject({
      code: "foreign-link",
      kind: "forbidden",
    });
    // Nor is it deleted under another mark.
    await kernel.apply(plan({ op: "link.delete", namespace: hostNamespace, name: "br0", alias: "dnet:other:1" }));
    expect(run("ip", "link", "show", "br0")).toContain("dnet:test:1");
  });

  it("makes a veth anew whose other end is gone", async () => {
    const work = plan(
      { op: "namespace.add", path: A },
      {
        op: "link.add",
        namespace: hostNamespace,
        link: { kind: "veth", name: "veth0", alias: "dnet:test:2", peer: { name: "eth0", namespace: A } },
      },
    );
    await kernel.apply(work);
    inside(A, "ip", "link", "set", "eth0", "name", "other");
    await kernel.apply(work);
    expect(inside(A, "ip", "-br", "link")).toContain("eth0@");
    expect(inside(A, "ip", "-br", "link")).not.toContain("other@");
  });

  it("goes on past failures when tearing down and reports them all", async () => {
    await kernel.apply(everything(A));
    const failing = plan(
      { op: "nft.apply", namespace: A, script: "delete table inet nosuch\n" },
      { op: "nft.apply", namespace: A, script: "nonsense\n" },
      { op: "namespace.delete", path: A },
    );
    const error = await kernel.teardown(failing).catch((thrown: AggregateError) => thrown);
    expect((error as AggregateError).errors).toHaveLength(2);
    expect(await kernel.observe(A)).toBeUndefined();
  });

  it("tells the kernel's own words in its error", async () => {
    const link = { kind: "vxlan", name: "vxlan9", vni: 1 << 25, port: 4789 } as const;
    await expect(kernel.apply(plan({ op: "link.add", namespace: hostNamespace, link }))).rejects.toThrow(
      /ip link add name vxlan9 type vxlan id 33554432 dstport 4789: numerical result out of range/,
    );
  });

  it("opens sockets inside a namespace", async () => {
    await kernel.apply(plan({ op: "namespace.add", path: A }));
    const address = parseIp("127.0.0.11");
    const sockets = await kernel.openSockets(A, [
      { protocol: "udp", address, port: 0 },
      { protocol: "tcp", address, port: 0 },
    ]);
    const listed = inside(A, "ss", "-Hlnut");
    for (const { port } of sockets) expect(listed).toContain(`127.0.0.11:${port}`);
    expect(run("ss", "-Hlnut")).not.toContain("127.0.0.11");
    const { closeSync } = await import("node:fs");
    for (const { fd } of sockets) closeSync(fd);
  });

  it("reads what `ip` shows", async () => {
    await kernel.apply(everything(A));
    const observed = (await kernel.observe(A)) as Observed;
    const shown = JSON.parse(inside(A, "ip", "-j", "addr")) as {
      ifname: string;
      mtu: number;
      addr_info: { local: string }[];
    }[];
    expect(observed.links.map(({ name, mtu, addresses }) => ({ name, mtu, n: addresses.length }))).toEqual(
      shown.map(({ ifname, mtu, addr_info }) => ({ name: ifname, mtu, n: addr_info.length })),
    );
    expect(observed.routes).toContainEqual({ to: "0.0.0.0/0", via: "10.1.0.9", device: "br0" });
    const addressed = observed.links.filter(({ addresses }) => addresses.length > 0);
    expect(addressed.length).toBeLessThan(observed.links.length);
    const byIndex = (a: ObservedLink, b: ObservedLink) => a.index - b.index;
    const { links = [], routes } = (await kernel.observe(A, undefined, "addressed")) ?? {};
    expect([links.toSorted(byIndex), routes]).toEqual([addressed.toSorted(byIndex), observed.routes]);
  });

  it("33, 42, moby 44973: says what a kernel lacks, and that a bridge is full", async () => {
    await kernel.apply(plan({ op: "namespace.add", path: A }));
    const add = (link: LinkSpec): Operation => ({ op: "link.add", namespace: A, link });
    await kernel.apply(plan(add({ kind: "bridge", name: "br0", up: true })));
    // This kernel has no ipvlan; where one has it, there is nothing to say.
    const ipvlan = kernel.apply(plan(add({ kind: "ipvlan", name: "iv0", parent: "br0", mode: "l2" })));
    await ipvlan.catch((error: NetworkError) => {
      expect(error.hint).toBe(
        "this kernel has no links of kind ipvlan: modprobe ipvlan, or install the kernel's package of modules",
      );
    });
    // Both ends of 511 pairs and one of another are 1,023 ports.
    const pairs = Array.from(
      { length: 512 },
      (_, n) => `link add a${n} type veth peer name b${n}\nlink set a${n} master br0`,
    );
    const peers = Array.from({ length: 511 }, (_, n) => `link set b${n} master br0`);
    shell(`nsenter --net=${A} ip -batch - <<'EOF'\n${[...pairs, ...peers].join("\n")}\nEOF`);
    const veth: LinkSpec = { kind: "veth", name: "veth0", master: "br0", peer: { name: "eth0", namespace: A } };
    await expect(kernel.apply(plan(add(veth)))).rejects.toMatchObject({
      code: "bridge-full",
      kind: "forbidden",
      message: "bridge br0 is full: it has 1023 ports, and no Linux bridge has more",
    });
    expect(inside(A, "ip", "-br", "link")).not.toContain("veth0");
  });

  it("keeps isolated ports of a bridge apart, those that it finds too", async () => {
    await kernel.apply(plan({ op: "namespace.add", path: A }));
    const isolated = plan(
      { op: "link.add", namespace: A, link: { kind: "bridge", name: "br0", up: true } },
      {
        op: "link.add",
        namespace: A,
        link: {
          kind: "veth",
          name: "veth0",
          master: "br0",
          bridgePort: { isolated: true },
          peer: { name: "eth0", namespace: A },
        },
      },
    );
    const shown = () => inside(A, "bridge", "-d", "link", "show", "dev", "veth0");
    await kernel.apply(isolated);
    expect(shown()).toContain("isolated on");
    inside(A, "bridge", "link", "set", "dev", "veth0", "isolated", "off");
    await kernel.apply(isolated);
    expect(shown()).toContain("isolated on");
  });

  it("lets go of a namespace that somebody else unmounts", async () => {
    await kernel.apply(plan({ op: "namespace.add", path: A }));
    run("umount", "-l", A);
    expect(await kernel.observe(A)).toBeUndefined();
    run("rm", A);
  });

  it("marks a namespace by its loopback, which is up", async () => {
    await kernel.apply(plan({ op: "namespace.add", path: A, alias: "dnet:test:1" }));
    expect((await kernel.observe(A))?.links).toMatchObject([{ name: "lo", alias: "dnet:test:1", up: true }]);
  });

  it("knows the file that was a namespace from others that are empty", async () => {
    await kernel.apply(plan({ op: "namespace.add", path: A }, { op: "namespace.add", path: B }));
    run("umount", "-l", A);
    shell("touch /run/docker/netns/foreign; echo mine > /run/docker/netns/full; chmod +t /run/docker/netns/full");
    expect(await kernel.vacantIn("/run/docker/netns")).toEqual([A]);
    await kernel.teardown(plan({ op: "namespace.delete", path: A }));
    expect(await kernel.vacantIn("/run/docker/netns")).toEqual([]);
    run("rm", "/run/docker/netns/foreign", "/run/docker/netns/full");
  });
});

/** Links and routes only: what the inverse plan takes back entirely. */
const picture0 = (namespace: string): string =>
  ["link", "addr", "route", "rule", "neigh"].map((what) => inside(namespace, "ip", "-br", what)).join("\n");
