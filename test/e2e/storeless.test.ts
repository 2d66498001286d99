import { createHash } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { Lab } from "../../src/lab/lab.ts";
import type { LabHost } from "../../src/lab/lab-host.ts";
import { enterOwnHost, eventually, expectNothingLeft } from "../own-host.ts";
import { Pings } from "./overlay-lab.ts";

// Several daemons and serf agents start; on a machine that others use, that takes its time.
vi.setConfig({ testTimeout: 300_000 });
const patient = 60_000;

const id = createHash("sha256").update("storeless").digest("hex");
/** The network as it is made on each host by hand: the same id, subnet and segment, addresses of the host's own. */
const network = (n: number): readonly string[] => [
  ...["network", "create", "-d", "overlay", `--id=${id}`, "--subnet", "10.9.0.0/16", "--ip-range", `10.9.${n}.0/24`],
  ...["--opt", "com.docker.network.driver.overlay.vxlanid_list=700", "multihost"],
];

const ok = async (host: LabHost, ...args: readonly string[]): Promise<string> => {
  const { status, stdout, stderr } = await host.dnet(...args);
  if (status !== 0) throw new Error(`${host.name}: dnet ${args.join(" ")}: ${stderr}${stdout}`);
  return stdout;
};

const service = async (host: LabHost, name: string): Promise<void> => {
  await ok(host, "container", "create", `c-${name}`);
  await ok(host, "service", "publish", `${name}.multihost`);
  await ok(host, "service", "attach", `c-${name}`, `${name}.multihost`);
};

const keyOf = async (host: LabHost, container: string): Promise<string> =>
  (JSON.parse(await ok(host, "container", "info", container, "--format", "json")) as { key: string }).key;

/** In a container's namespace and with its resolver. */
const inContainer = async (host: LabHost, container: string, ...command: readonly string[]) =>
  host.exec("nsenter", `--net=${await keyOf(host, container)}`, ...command);

const ping = async (host: LabHost, container: string, to: string): Promise<Pings> => {
  const command = ["nsenter", `--net=${await keyOf(host, container)}`, ...Pings.command(to)];
  return new Pings(await host.spawn(command, { stdio: ["pipe", "pipe", "pipe"] }));
};

/** Asks the container's resolver, and pings what it says. */
const reaches = async (host: LabHost, container: string, name: string): Promise<boolean> => {
  const { stdout } = await inContainer(
    host,
    container,
    "dig",
    "+short",
    "+time=5",
    "+tries=1",
    "@127.0.0.11",
    "-q",
    name,
  );
  const [address = ""] = stdout.trim().split("\n");
  if (!/^10\.9\./.test(address)) return false;
  return (await inContainer(host, container, "ping", "-c1", "-w10", address)).status === 0;
};

const services = async (host: LabHost): Promise<readonly string[]> =>
  (JSON.parse(await ok(host, "service", "ls", "--format", "json")) as { name: string }[])
    .map(({ name }) => name)
    .filter((name) => !name.startsWith("gateway_"))
    .sort();
const states = async (host: LabHost): Promise<readonly string[]> =>
  (JSON.parse(await ok(host, "node", "ls", "--format", "json")) as { name: string; state: string }[]).map(
    ({ name, state }) => `${name} ${state}`,
  );
const fdb = (host: LabHost): Promise<string> =>
  host.run("nsenter", `--net=/var/run/docker/netns/1-${id.slice(0, 10)}`, "bridge", "fdb", "show", "dev", "vxlan1");

beforeAll(() => enterOwnHost());
afterEach(async () => {
  for (const lab of await Lab.list()) await lab.down();
});
afterAll(() => expectNothingLeft());

describe("a network of hosts without a store", () => {
  it("has its names and peers from the gossip; they survive daemons, hosts and late comers", async () => {
    await using lab = await Lab.up({ hosts: 3, store: "storeless" });
    const [one, two, three] = [lab.host(1), lab.host(2), lab.host(3)];
    await ok(one, ...network(1));
    await ok(two, ...network(2));
    await service(one, "a");
    await service(two, "b");
    await eventually("a reaches b", () => reaches(one, "c-a", "b"), patient);
    await eventually("b reaches a", () => reaches(two, "c-b", "a.multihost"), patient);
    expect(await services(one)).toEqual(["a", "b"]);
    // Daemons are ready before their gossip is.
    const alive = "dnet-1 alive,dnet-2 alive,dnet-3 alive";
    await eventually("all three are alive", async () => (await states(one)).join() === alive, patient);
    expect(await fdb(one)).toContain("02:42:0a:09:02:00 dst 172.17.0.4");

    // What is another node's is refused, with the name of that node.
    const taken = await one.dnet("service", "publish", "b.multihost");
    expect(taken.stderr).toContain("service with name b already exists in network multihost");
    await ok(two, "service", "publish", "spare.multihost");
    await eventually("spare is known", async () => (await services(one)).includes("spare"), patient);
    for (const command of [
      ["service", "attach", "c-a", "spare.multihost"],
      ["service", "unpublish", "spare.multihost"],
      ["service", "unpublish", "-f", "b.multihost"],
    ]) {
      const refused = await one.dnet(...command);
      expect(refused.status).toBe(1);
      expect(refused.stderr).toMatch(/service \w+ belongs to node dnet-2/);
    }

    // A late comer learns all; the network is there before or after what is in it is known.
    await ok(three, ...network(3));
    await eventually("it knows all", async () => (await services(three)).join() === "a,b,spare", patient);
    await service(three, "c");
    for (const name of ["a", "b"]) await eventually(`c reaches ${name}`, () => reaches(three, "c-c", name), patient);
    await eventually("a reaches c", () => reaches(one, "c-a", "c"), patient);

    // What goes, goes everywhere.
    await ok(two, "service", "detach", "c-b", "b.multihost");
    await eventually("the peer is gone", async () => !(await fdb(one)).includes("02:42:0a:09:02:00"), patient);
    expect(await reaches(one, "c-a", "b")).toBe(false);
    await ok(two, "service", "attach", "c-b", "b.multihost");
    await eventually("a reaches b again", () => reaches(one, "c-a", "b"), patient);

    // Daemons that stop and start lose no packet of those that talk.
    const pings = [await ping(one, "c-a", "10.9.2.0"), await ping(two, "c-b", "10.9.1.0")];
    const answered = () => pings.map(({ answers }) => answers);
    await eventually("pings are answered", () => answered().every((answers) => answers >= 3), patient);
    for (const host of [one, two]) {
      await host.kill("TERM");
      await host.start();
      const before = answered();
      await eventually("they go on", () => answered().every((now, n) => now >= (before[n] ?? 0) + 5), patient);
    }

    // A daemon that is killed: its sandbox answers all the time, under its name. What changed meanwhile is learned.
    await two.kill("KILL");
    await eventually("b's node is gone", async () => (await states(one)).includes("dnet-2 gone"), patient);
    expect(await services(one)).toEqual(["a", "b", "c", "spare"]);
    expect(await reaches(one, "c-a", "b")).toBe(true);
    await service(one, "d");
    await two.start();
    // From the first moment; the rest when it has been heard.
    expect(await reaches(two, "c-b", "a")).toBe(true);
    await eventually("b reaches d", () => reaches(two, "c-b", "d"), patient);
    await eventually("b's node is back", async () => (await states(one)).includes("dnet-2 alive"), patient);
    for (const running of pings) {
      const { sent, lost } = await running.stop();
      expect(lost, running.text.slice(-1000)).toBe(0);
      expect(sent).toBeGreaterThan(10);
    }

    // A host that loses its power comes back without its sandboxes and what was attached to them, which the others learn.
    await three.reboot();
    await eventually("c's node is back", async () => (await states(one)).includes("dnet-3 alive"), patient);
    await eventually("c is gone", async () => !(await services(one)).includes("c"), patient);
    await eventually("the peer c is gone", async () => !(await fdb(one)).includes("02:42:0a:09:03:00"), patient);
    await service(three, "c");
    await eventually("a reaches c once more", () => reaches(one, "c-a", "c"), patient);

    // A network goes from a host when nothing of that host is in it, whatever others have there.
    expect((await three.dnet("network", "rm", "multihost")).stderr).toContain("has active endpoints");
    await ok(three, "container", "rm", "c-c");
    await ok(three, "network", "rm", "multihost");
    expect(await services(three)).toEqual([]);
    await eventually("c is gone for good", async () => (await services(one)).join() === "a,b,d,spare", patient);
  });
});
