import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Rest } from "../../bench/rest.ts";
import { enterOwnHost, eventually, expectNothingLeft, inside, run, shell } from "../own-host.ts";
import { DaemonProcess, dnet, ok } from "./dnet.ts";

/** What others take from a running daemon comes back: at once where the kernel tells of it, else at the next look. */

let directory = "";
let daemon: DaemonProcess;
let rest: Rest;

beforeAll(() => {
  enterOwnHost();
  directory = mkdtempSync(join(tmpdir(), "dnet-repair-"));
});
afterAll(() => {
  rmSync(directory, { recursive: true });
  expectNothingLeft();
});

/** @param every seconds between two looks */
const start = async (every: number): Promise<void> => {
  const config = join(directory, "dnet.toml");
  writeFileSync(config, `[daemon]\nrepair = ${every}\ndefaultNetwork = ""\n`);
  daemon = await DaemonProcess.start("-c", config);
  rest = new Rest("/run/dnet.sock");
};
afterEach(async () => {
  for (const name of ["c1", "c2"]) ok("container", "rm", name);
  ok("network", "rm", "web");
  rest.close();
  expect(await daemon.stop()).toBe(0);
});

/** Two containers on a network of both families; `reaches` asks from the first one. */
const make = async () => {
  ok("network", "create", "--ipv6", "web");
  for (const name of ["c1", "c2"]) {
    ok("container", "create", name);
    ok("service", "publish", `${name}.web`);
    ok("service", "attach", name, `${name}.web`);
  }
  const bridge = /^(br-[0-9a-f]+)/m.exec(shell("ip -br link show type bridge"))?.[1] ?? "";
  const sandboxes = await rest.call<{ container_id: string; key: string }[]>("GET", "/sandboxes");
  const namespace = sandboxes.find(({ container_id: container }) => container === "c1")?.key ?? "";
  const [service] = await rest.call<{ addresses: string[] }[]>("GET", "/services?name=c2");
  const addresses = (service?.addresses ?? []).map((address) => address.split("/")[0]);
  expect(addresses).toHaveLength(2);
  const [line = ""] = run("ip", "-br", "link", "show", "master", bridge).split("\n");
  const reaches = (): boolean => {
    try {
      for (const address of [...addresses, "172.17.0.1"]) inside(namespace, "ping", "-c1", "-W1", address ?? "");
      return true;
    } catch {
      return false;
    }
  };
  return { bridge, namespace, port: line.split("@")[0] ?? "", reaches };
};

const repairs = async (): Promise<number> => (await rest.call<{ repairs: number }>("GET", "/healthz")).repairs;

describe("what the kernel tells of comes back at once", () => {
  it.each([
    [
      "a bridge that is deleted",
      "ip link delete $bridge",
      /network web: found it without bridge br-\S+ on the host and \d+ more, expected it with them: put back/,
    ],
    ["a bridge that is set down", "ip link set $bridge down", /network web: found it without .*br-.*: put back/],
    ["an address of a bridge", "ip address flush dev $bridge", /network web: found it without address \S+ of br-/],
    [
      "a port that is deleted",
      "ip link delete $port",
      /container c\d: found it without veth pair: eth0 in namespace \S+, and \S+ \(port of bridge br-/,
    ],
    [
      "a port that is set down",
      "ip link set $port down",
      /container c\d: found it without veth\S+ is up on the host, expected it with that: put back/,
    ],
    ["a port that is unplugged", "ip link set $port nomaster", /container c\d: found it without/],
  ])("%s", async (_what, command, said) => {
    await start(3600);
    const { bridge, port, reaches } = await make();
    await eventually("it is reached", reaches, 30_000);
    expect(await repairs()).toBe(0);
    shell(`bridge=${bridge} port=${port}; ${command}`);
    await eventually("it is back", reaches, 30_000);
    // Said and counted when it has been seen that it worked.
    await eventually("it is said", () => said.test(daemon.log), 30_000);
    await eventually("it is counted", async () => (await repairs()) > 0, 30_000);
    expect(ok("doctor")).toMatch(/^no differences found/);
  });
});

it("what is inside a sandbox comes back at the next look", async () => {
  await start(1);
  const { namespace, reaches } = await make();
  const outcome = (command: string) => {
    inside(namespace, "sh", "-ec", command);
    return eventually(`${command} is put right`, () => dnet("doctor").status === 0 && reaches(), 60_000);
  };
  await outcome("ip address flush dev eth0");
  await outcome("ip route delete default");
  await outcome("nft flush ruleset");
  await outcome("ip link set eth0 down");
  expect(daemon.log).toMatch(/container c1: found it without default route in namespace/);
  expect(daemon.log).toMatch(/container c1: found it without redirect of port 53 to the resolver/);
});

it("takes none of what operations do for somebody else's", async () => {
  await start(1);
  await make();
  const before = performance.now();
  for (let n = 0; performance.now() - before < 6_000; n++) {
    ok("network", "create", "other");
    ok("container", "create", "-p", "8080:80", `o${n}`);
    ok("service", "publish", `o${n}.other`);
    ok("service", "attach", `o${n}`, `o${n}.other`);
    ok("service", "detach", `o${n}`, `o${n}.other`);
    ok("service", "attach", `o${n}`, `o${n}.other`);
    ok("container", "rm", `o${n}`);
    ok("network", "rm", "other");
  }
  expect(daemon.log).not.toContain("put back");
  expect(await repairs()).toBe(0);
});
