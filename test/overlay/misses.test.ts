import { readdirSync, readlinkSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { type Miss, missText } from "../../src/linux/miss-watch.ts";
import { NetlinkMissWatch } from "../../src/linux/netlink-miss-watch.ts";
import { plan } from "../../src/linux/plan.ts";
import { ipFromBigInt } from "../../src/net/ip.ts";
import { macFromIp } from "../../src/net/mac.ts";
import { withLength } from "../../src/net/prefix.ts";
import { eventually } from "../own-host.ts";
import { endpointOf, hostOf, overlayNetwork, peerOf, useLan, wire } from "./lan.ts";

const hosts = useLan(2);
const network = overlayNetwork("multihost", 256, ["10.0.3.0/24", "fd03::/64"]);
const a = endpointOf("a", "10.0.3.2/24", "fd03::2/64");
const b = endpointOf("b", "10.0.3.3/24", "fd03::3/64");

/** Descriptors of this process that are sockets. */
const descriptors = (): number =>
  readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return /socket/.test(readlinkSync(`/proc/self/fd/${fd}`));
    } catch {
      return false;
    }
  }).length;

/** Sends an echo request and does not wait for the answer. */
const poke = (to: string): void => void hostOf(hosts, 1).ping(a, to, "-w", "1");

describe("the watch for misses", () => {
  it("tells of addresses and MACs that nobody knows, and of nothing else", async () => {
    const [one, two] = [hostOf(hosts, 1), hostOf(hosts, 2)];
    await one.arrive(network, [two]);
    await two.arrive(network, [one]);
    await one.attach(network, a);
    const watch = new NetlinkMissWatch(one.kernel);
    const abort = new AbortController();
    const misses: Miss[] = [];
    const reading = (async () => {
      for await (const miss of watch.watch(one.namespace(network), abort.signal)) misses.push(miss);
    })();
    /** Pings until it is told: a packet whose neighbour is just being given up on is dropped without another question. */
    const told = (to: string, text: string) =>
      eventually(text, () => {
        poke(to);
        return misses.some((miss) => missText(miss) === text);
      });
    await told("10.0.3.3", "Miss notification, l3 ip 10.0.3.3");
    await told("fd03::3", "Miss notification, l3 ip fd03::3");
    // Its entries wake nobody, however many.
    const others = Array.from({ length: 100 }, (_, n) => ipFromBigInt(BigInt(0x0a000400 + n), 4));
    const many = others.map(
      (ip) =>
        ({ op: "neighbor.add", namespace: one.namespace(network), device: "vxlan1", ip, mac: macFromIp(ip) }) as const,
    );
    await one.kernel.apply(plan(...many));
    // A neighbour without a place.
    one.inside(network, "ip", "neighbor", "add", "10.0.3.3", "lladdr", "02:42:0a:00:03:03", "dev", "vxlan1");
    await told("10.0.3.3", "Miss notification, l2 mac 02:42:0a:00:03:03");
    expect(new Set(misses.map(({ device }) => device))).toEqual(new Set(["vxlan1"]));
    // The sandbox asks for its own link-local address too, and routers for theirs.
    const asked = misses.map(missText).filter((text) => !text.includes("fe80::"));
    expect(new Set(asked)).toEqual(
      new Set([
        "Miss notification, l3 ip 10.0.3.3",
        "Miss notification, l3 ip fd03::3",
        "Miss notification, l2 mac 02:42:0a:00:03:03",
      ]),
    );
    abort.abort();
    await reading;
  });

  it("lets a peer be installed when it is asked for", async () => {
    const [one, two] = [hostOf(hosts, 1), hostOf(hosts, 2)];
    await wire(network, [
      [one, a],
      [two, b],
    ]);
    await one.forget(network, peerOf(b, two));
    const watch = new NetlinkMissWatch(one.kernel);
    const abort = new AbortController();
    const installing = (async () => {
      for await (const miss of watch.watch(one.namespace(network), abort.signal)) {
        if (
          miss.kind === "l3" &&
          b.addresses.some((address) => address === withLength(miss.ip, miss.ip.includes(":") ? 64 : 24))
        )
          await one.know(network, peerOf(b, two));
      }
    })();
    await eventually("an answer", () => one.ping(a, "10.0.3.3", "-w", "1"));
    expect(one.ping(a, "fd03::3")).toBe(true);
    abort.abort();
    await installing;
  });

  it("outlives a sandbox that makes thousands at once", async () => {
    const one = hostOf(hosts, 1);
    const wide = overlayNetwork("wide", 300, ["10.7.0.0/16"]);
    const source = endpointOf("source", "10.7.200.2/16");
    await one.arrive(wide, []);
    await one.attach(wide, source);
    const abort = new AbortController();
    const misses: Miss[] = [];
    const reading = (async () => {
      for await (const miss of new NetlinkMissWatch(one.kernel).watch(one.namespace(wide), abort.signal))
        misses.push(miss);
    })();
    await eventually("the first miss", () => {
      one.ping(source, "10.7.200.9", "-w", "1");
      return misses.length > 0;
    });
    // Neighbours that the sandbox knows are not asked for: each datagram is a MAC that nobody knows.
    const neighbors = Array.from({ length: 12 * 250 }, (_, n) => {
      const [third, fourth] = [Math.floor(n / 250), (n % 250) + 1];
      const mac = `02:42:0a:07:${third.toString(16).padStart(2, "0")}:${fourth.toString(16).padStart(2, "0")}`;
      return `neighbor add 10.7.${third}.${fourth} lladdr ${mac} dev eth0\n`;
    });
    writeFileSync("/run/neighbors", neighbors.join(""));
    one.in(source, "ip", "-batch", "/run/neighbors");
    const program = new URL("./datagram.cjs", import.meta.url).pathname;
    one.in(source, process.execPath, program, "spray", "10.7", "9", "10.7.200.2");
    await eventually("hundreds of them are told", () => misses.filter(({ kind }) => kind === "l2").length > 500);
    // In the background: a test that waits for it would keep the watch from reading what is there already.
    const pinging = one.start(source, "ping", "-i", "0.5", "10.7.200.10");
    const ended = new Promise((resolve) => pinging.once("exit", resolve));
    await eventually(
      "a new one is told",
      () => misses.some((miss) => miss.kind === "l3" && miss.ip === "10.7.200.10"),
      30_000,
    );
    pinging.kill("SIGKILL");
    await ended;
    abort.abort();
    await reading;
  });

  it("leaves no descriptor", async () => {
    const one = hostOf(hosts, 1);
    await one.arrive(network, []);
    await one.kernel.observe(one.namespace(network));
    const before = descriptors();
    const watch = new NetlinkMissWatch(one.kernel);
    for (let n = 0; n < 3; n++) {
      const abort = new AbortController();
      const reading = (async () => {
        for await (const _ of watch.watch(one.namespace(network), abort.signal)) break;
      })();
      await eventually("the socket is open", () => descriptors() > before);
      abort.abort();
      await reading;
    }
    await eventually("all descriptors are closed", () => descriptors() <= before);
  });

  it("says that there is no such namespace", async () => {
    const watch = new NetlinkMissWatch(hostOf(hosts, 1).kernel);
    const reading = (async () => {
      for await (const _ of watch.watch("/run/nosuch", new AbortController().signal)) break;
    })();
    await expect(reading).rejects.toMatchObject({ code: "no-namespace" });
  });
});
