import { existsSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { option } from "../../src/drivers/options.ts";
import { enterOwnHost, eventually, expectNothingLeft, inside, run, shell } from "../own-host.ts";
import { ok } from "./dnet.ts";
import { at, connects, here, type Place } from "./firewall-lab.ts";
import { addressOf, host, host6, infoOf, PortHost } from "./port-host.ts";
import { call } from "./port-peers.ts";

/** Published ports of sandboxes that are kept apart (`enable_icc=false`, as `docker_gwbridge` has it). */

const lab = new PortHost();
const filtered = "/proc/sys/net/bridge/bridge-nf-call-iptables";
/** With br_netfilter, packets of a bridge pass the host's rules, NAT too, without leaving the bridge. */
const settings = existsSync(filtered) ? ["1", "0"] : ["none"];
const setFilter = (value: string): void => {
  if (value !== "none") for (const name of [filtered, filtered.replace("ip", "ip6")]) writeFileSync(name, value);
};

const macOf = (device: string, place: Place = here): string =>
  (JSON.parse(at(place, "ip", "-j", "link", "show", device)) as { address: string }[])[0]?.address ?? "";

/** Keys of the three containers: two with ports, one without. */
let keys: readonly string[];

beforeAll(async () => {
  enterOwnHost();
  await lab.connect();
  await lab.start();
  ok("network", "create", "--ipv6", "-o", `${option.icc}=false`, "web");
  for (const [n, name] of ["c1", "c2"].entries()) {
    const ports = ["-p", `${8080 + n}:80`, "-p", `${5350 + n}:53/udp`];
    await lab.run(name, "web", ports, [
      ["tcp", 80],
      ["udp", 53],
    ]);
  }
  await lab.run("c3", "web", [], [["tcp", 80]]);
  keys = ["c1", "c2", "c3"].map((name) => infoOf(name).key);
});
afterAll(async () => {
  await lab.removeAll();
  await lab.outside.close();
  expectNothingLeft();
});

describe.each(settings)("with br_netfilter %s", (value) => {
  beforeAll(() => setFilter(value));

  it("a sandbox reaches its neighbour's port and its own by the host's address, of both families", () => {
    const gateways = { 4: "172.18.0.1", 6: addressOf("c1.web", 6).replace(/:2$/, ":1") };
    for (const [who, key] of ["c1", "c2", "c3"].map((name, n) => [name, keys[n]] as const)) {
      for (const [address, seen] of [
        [host, gateways[4]],
        [host6, gateways[6]],
        [gateways[4], gateways[4]],
      ] as const) {
        expect(call(key, "tcp", address, 8080), `${who} to ${address}`).toBe(`c1 80 ${seen}`);
        expect(call(key, "udp", address, 5351), `${who} to ${address}`).toBe(`c2 53 ${seen} hello`);
      }
    }
  });

  it("and nothing else of it: not its address, not by a frame to it, not by a detour by the gateway", async () => {
    const places = keys.map((key) => ({ enter: `--net=${key}` }));
    const tries = [
      [0, "c2.web"],
      [1, "c1.web"],
      [2, "c1.web"],
      [0, "c3.web"],
    ] as const;
    const attempts = tries.flatMap(([from, to]) =>
      ([4, 6] as const).map((family) => [from, addressOf(to, family)] as const),
    );
    const reached = () => Promise.all(attempts.map(([from, to]) => connects(places[from] ?? here, to, 80)));
    const none = attempts.map(() => false);
    expect(await reached()).toEqual(none);
    // Sandboxes that know where their neighbours are, as one whose root is hostile may; or take the gateway for them.
    const macs = new Map(
      ["c1", "c2", "c3"].flatMap((name, n) =>
        ([4, 6] as const).map((family) => [addressOf(`${name}.web`, family), macOf("eth0", places[n])]),
      ),
    );
    const bridge = macOf(
      `br-${(JSON.parse(ok("network", "ls", "--format", "json")) as { id: string; name: string }[]).find(({ name }) => name === "web")?.id.slice(0, 12)}`,
    );
    for (const lladdr of [undefined, bridge]) {
      for (const [from, to] of attempts)
        inside(
          keys[from] ?? "",
          "ip",
          "neighbour",
          "replace",
          to,
          "lladdr",
          lladdr ?? macs.get(to) ?? "",
          "dev",
          "eth0",
        );
      expect(await reached(), lladdr ?? "by a frame").toEqual(none);
    }
    for (const [from, to] of attempts) inside(keys[from] ?? "", "ip", "neighbour", "delete", to, "dev", "eth0");
  });
});

it("the rule that keeps them apart is put back when it is flushed, and goes with the last of them", async () => {
  const rules = () =>
    shell("nft -s list table bridge $(nft list tables | sed -n 's/^table bridge \\(.*_apart\\)$/\\1/p')");
  const whole = rules();
  expect(whole).toContain("apart");
  run("nft", "flush", "ruleset");
  await eventually("it is back", () => run("nft", "list", "tables").includes("_apart") && rules() === whole);
  for (const name of ["c1", "c2", "c3"]) ok("container", "rm", name);
  expect(rules()).not.toContain("elements");
});
