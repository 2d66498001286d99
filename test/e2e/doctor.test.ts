import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync, writeFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { DiagnosisResource, NetworkResource, SandboxResource, ServiceResource } from "../../src/api/resources.ts";
import { enterOwnHost, eventually, expectNothingLeft, inside, run, shell, sweep } from "../own-host.ts";
import { DaemonProcess, dnet, ok } from "./dnet.ts";

/** Every kind of difference, made by hand on a real kernel and a real store: `dnet doctor` names it, and `--repair` removes it. */

const config = "/run/doctor.toml";
const database = "/var/lib/docker/network/dnet.db";
const files = "/var/lib/docker/network/files";
/** A node that exists in records only. */
const elsewhere = "0a0a0b02";

beforeAll(() => {
  enterOwnHost();
  // What is broken stays broken until the doctor is asked.
  writeFileSync(config, '[daemon]\nrepair = 0\n[overlay]\nrepair = 3600\n[cluster]\naddress = "10.9.0.1"\n');
});
afterAll(async () => {
  if (!spoilt) await clear();
  expectNothingLeft();
});

let daemon: DaemonProcess;
const start = async () => {
  daemon = await DaemonProcess.start("-c", config);
};
/** Work on what the daemon finds at its start. */
const whileStopped = async (work: () => void) => {
  await daemon.stop();
  work();
  await start();
};

/** Everything that the tests change: made once, and again after what a repair does not bring back. */
const furnish = async () => {
  shell(`ip link add under0 type veth peer name under1; ip address add 10.9.0.1/24 dev under0
    ip link set under0 up; ip link set under1 up`);
  await start();
  ok("network", "create", "web");
  ok("network", "create", "-d", "overlay", "multi");
  ok("container", "create", "c1");
  ok("service", "publish", "s1.web");
  ok("service", "publish", "s1.multi");
  ok("service", "attach", "c1", "s1.web");
  ok("service", "attach", "c1", "s1.multi");
};
const clear = async () => {
  await daemon.stop("SIGKILL");
  sweep();
};
let spoilt = true;
beforeEach(async () => {
  if (spoilt) await furnish();
  spoilt = false;
});
afterEach(async ({ task }) => {
  spoilt ||= task.result?.state === "fail";
  if (spoilt) await clear();
});

const examine = (...flags: readonly string[]): DiagnosisResource & { readonly status: number | null } => {
  const { status, stdout, stderr } = dnet("doctor", "--format", "json", ...flags);
  if (stderr !== "") throw new Error(stderr);
  const answer = JSON.parse(stdout) as DiagnosisResource & { readonly after?: DiagnosisResource };
  return { ...(answer.after ?? answer), status };
};
const codes = ({ findings }: DiagnosisResource): readonly string[] =>
  [...new Set(findings.map(({ code }) => code))].sort();
const expectNothingFound = (...flags: readonly string[]) => {
  const found = examine(...flags);
  expect(found.findings).toEqual([]);
  expect(found.unchecked).toEqual([]);
  expect(found.status).toBe(0);
};

const all = <T>(...words: readonly string[]): readonly T[] => JSON.parse(ok(...words, "--format", "json")) as T[];
const networkId = (name: string) => all<NetworkResource>("network", "ls").find((one) => one.name === name)?.id ?? "";
const sandbox = () => all<SandboxResource>("container", "ls")[0] as SandboxResource;
const service = (network: string) =>
  all<ServiceResource>("service", "ls").find((one) => one.network === network) as ServiceResource;
const words = (command: string) => command.split(" ") as [string, ...string[]];
const overlay = () => `/run/docker/netns/1-${networkId("multi").slice(0, 10)}`;
const veth = (network: string) => `veth${service(network).id.slice(0, 11)}`;

/** Runs SQL on the store; the daemon does not run. */
const sql = (statement: string, ...values: readonly string[]) => {
  const store = new DatabaseSync(database);
  try {
    store.prepare(statement).run(...values.map((value, n) => (n === 0 ? Buffer.from(value) : value)));
  } finally {
    store.close();
  }
};
const put = (key: string, value: unknown) =>
  sql("INSERT OR REPLACE INTO entries (key, value, version) VALUES (?, ?, 1000000)", key, JSON.stringify(value));
const read = (key: string): Record<string, unknown> => {
  const store = new DatabaseSync(database, { readOnly: true });
  const row = store.prepare("SELECT value FROM entries WHERE key = ?").get(Buffer.from(key)) as { value: string };
  store.close();
  return JSON.parse(row.value) as Record<string, unknown>;
};

it("finds nothing on a host where everything is as it should be", () => {
  expectNothingFound();
  const { status, stdout } = dnet("doctor");
  expect(status).toBe(0);
  expect(stdout).toMatch(/^no differences found in local store, records, services, /);
});

describe("what is changed by hand in the kernel", () => {
  it.each<[string, readonly string[], () => unknown]>([
    ["a bridge deleted", ["link-differs"], () => run("ip", "link", "delete", `br-${networkId("web").slice(0, 12)}`)],
    ["a port taken out of its bridge", ["link-differs"], () => run("ip", "link", "set", veth("web"), "nomaster")],
    ["an interface deleted", ["link-differs"], () => run("ip", "link", "delete", veth("web"))],
    ["an interface set down", ["link-differs"], () => inside(sandbox().key, "ip", "link", "set", "eth0", "down")],
    ["an address deleted", ["no-address"], () => inside(sandbox().key, "ip", "address", "flush", "dev", "eth1")],
    ["the default route deleted", ["no-route"], () => inside(sandbox().key, "ip", "route", "delete", "default")],
    [
      "a container's namespace unmounted",
      ["no-namespace"],
      () => shell(`umount -l ${sandbox().key}; rm ${sandbox().key}`),
    ],
    ["an overlay's namespace unmounted", ["no-namespace"], () => shell(`umount -l ${overlay()}; rm ${overlay()}`)],
    ["a VXLAN device deleted", ["link-differs"], () => inside(overlay(), "ip", "link", "delete", "vxlan1")],
    ["a VXLAN device set down", ["link-differs"], () => inside(overlay(), "ip", "link", "set", "vxlan1", "down")],
    ["an overlay's bridge deleted", ["link-differs"], () => inside(overlay(), "ip", "link", "delete", "br0")],
    [
      "an address that no service has",
      ["surplus-peer"],
      () => inside(overlay(), ...words("ip neighbor add 10.0.0.77 lladdr 02:42:0a:00:00:4d dev vxlan1 nud permanent")),
    ],
    [
      "a MAC that no service has",
      ["surplus-peer"],
      () => inside(overlay(), ...words("bridge fdb add 02:42:0a:00:00:4d dev vxlan1 dst 10.9.0.9")),
    ],
    ["forwarding turned off", ["setting-differs"], () => run("sysctl", "-qw", "net.ipv4.ip_forward=0")],
  ])("%s", (what, expected, damage) => {
    damage();
    const found = examine();
    expect(found.status).toBe(1);
    for (const code of expected) expect(codes(found)).toContain(code);
    expectNothingFound("--repair");
    expectNothingFound();
    // A container whose namespace is gone has nothing left to be repaired.
    spoilt = what.startsWith("a container");
  });

  it("a link of ours that no record asks for goes; others' stay", () => {
    const alias = run("ip", "-j", "link", "show", "dev", veth("web"));
    const [{ ifalias = "" } = {}] = JSON.parse(alias) as { ifalias?: string }[];
    const mark = ifalias.replace(/[0-9a-f]{64}$/, "e".repeat(64));
    shell("ip link add lost0 type bridge; ip link add other0 type bridge");
    run("ip", "link", "set", "lost0", "alias", mark);
    expect(codes(examine())).toEqual(["orphan-link"]);
    expectNothingFound("--repair");
    expect(run("ip", "-br", "link")).toContain("other0");
    expect(run("ip", "-br", "link")).not.toContain("lost0");
  });

  it("an overlay that was left behind goes, with its filter", async () => {
    const path = overlay();
    const id = networkId("multi").slice(0, 10);
    await daemon.stop("SIGKILL");
    for (const like of [
      "%endpoints/%",
      "%networks/%",
      "%endpoint-names/%",
      "%addresses/%",
      "%segments/%",
      "%network-names/%",
      "%network-use/%",
    ]) {
      const store = new DatabaseSync(database);
      store
        .prepare("DELETE FROM entries WHERE CAST(key AS TEXT) LIKE ? AND CAST(key AS TEXT) LIKE 'global/%'")
        .run(like);
      store.close();
    }
    // The start removes what no record asks for.
    await start();
    expectNothingFound();
    expect(run("nft", "list", "tables")).not.toContain(id);
    expect(shell(`test -e ${path} && echo there || echo gone`)).toBe("gone\n");
    spoilt = true;
  });
});

describe("the way to other hosts", () => {
  it("an underlay whose packets became too small is found", () => {
    run("ip", "link", "set", "under0", "mtu", "1400");
    expect(codes(examine())).toEqual(["mtu-too-large"]);
    run("ip", "link", "set", "under0", "mtu", "1500");
    expectNothingFound();
  });

  it("an address that the host lost is found", () => {
    run("ip", "address", "delete", "10.9.0.1/24", "dev", "under0");
    expect(codes(examine())).toEqual(["no-vtep"]);
    run("ip", "address", "add", "10.9.0.1/24", "dev", "under0");
    expectNothingFound();
  });
});

it("a published port that another program took while no daemon held it is named with the program, until that ends", async () => {
  ok("container", "create", "-p", "18080:80", "p1");
  ok("service", "publish", "p1.web");
  ok("service", "attach", "p1", "p1.web");
  expectNothingFound();
  await daemon.stop();
  const listen = 'require("net").createServer().listen(18080, () => console.log("ready"))';
  const holder = spawn(process.execPath, ["-e", listen], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(holder, "exit");
  await once(holder.stdout, "data");
  await start();
  const found = examine();
  expect(found.findings).toMatchObject([
    {
      code: "port-not-held",
      subject: "container p1",
      what: `port 18080/tcp of the host is held by node (process ${holder.pid})`,
    },
  ]);
  expect(found.status).toBe(1);
  holder.kill("SIGKILL");
  await ended;
  await eventually("the port is taken back", () => examine().status === 0, 30_000);
  ok("container", "rm", "p1");
});

describe("files and resolvers", () => {
  it.each([["hosts"], ["resolv.conf"]])("%s deleted", (name) => {
    rmSync(`${files}/${sandbox().id}/${name}`);
    expect(codes(examine())).toEqual(["no-file"]);
    expectNothingFound("--repair");
    expect(shell(`cat ${files}/${sandbox().id}/${name}`)).not.toBe("");
  });

  it("the whole directory deleted", () => {
    rmSync(`${files}/${sandbox().id}`, { recursive: true });
    expect(codes(examine())).toEqual(["no-file"]);
    expectNothingFound("--repair");
  });

  it("the redirect to the resolver deleted", () => {
    inside(sandbox().key, "nft", "flush", "ruleset");
    expect(codes(examine())).toEqual(["no-resolver"]);
    expectNothingFound("--repair");
  });
});

describe("what is changed by hand in the store", () => {
  it.each<[string, string, () => void]>([
    ["a name nobody has", "guard-without-owner", () => put("local/network-names/ghost", { network: "e".repeat(64) })],
    ["a name without its key", "no-guard", () => sql("DELETE FROM entries WHERE key = ?", "local/network-names/web")],
    [
      "a segment nobody has",
      "guard-without-owner",
      () => put("global/segments/overlay/300", { network: "e".repeat(64) }),
    ],
    [
      "a record that fits no schema",
      "invalid-record",
      () => put(`local/networks/${"e".repeat(64)}`, { version: 1, name: "odd" }),
    ],
    ["a record that is no JSON object", "invalid-record", () => put(`local/sandboxes/${"e".repeat(64)}`, null)],
  ])("%s", async (_what, code, damage) => {
    await whileStopped(damage);
    expect(codes(examine())).toEqual([code]);
    expectNothingFound("--repair");
    await whileStopped(() => undefined);
    expectNothingFound();
  });

  it("a service of a network that is gone", async () => {
    const id = networkId("multi");
    const { id: endpoint, sandbox_id: _sandbox } = service("multi");
    await whileStopped(() => {
      const { sandbox: _claim, ...free } = read(`global/endpoints/${id}/${endpoint}`);
      put(`global/endpoints/${"e".repeat(64)}/${endpoint}`, { ...free, network: "e".repeat(64) });
      sql("DELETE FROM entries WHERE key = ?", `global/endpoints/${id}/${endpoint}`);
    });
    expect(codes(examine())).toContain("service-without-network");
    expectNothingFound("--repair");
    spoilt = true;
  });

  it("a service attached on a node that nobody knows: dnet gc gives it back; its peer entries are looked after until then", async () => {
    const network = networkId("multi");
    ok("service", "publish", "far.multi");
    const far = all<ServiceResource>("service", "ls").find(({ name }) => name === "far");
    const key = `global/endpoints/${network}/${far?.id}`;
    await whileStopped(() => {
      const claim = {
        id: "c".repeat(64),
        node: elsewhere,
        vtep: "10.9.0.2",
        container: "cx",
        interface: "eth0",
        order: 0,
        aliases: [],
      };
      put(key, { ...read(key), sandbox: claim });
    });
    expect(codes(examine())).toEqual(["claims-of-unknown-node"]);
    const address = far?.addresses?.[0]?.split("/")[0] ?? "";
    inside(overlay(), "ip", "neighbor", "delete", address, "dev", "vxlan1");
    inside(overlay(), "bridge", "fdb", "delete", far?.mac_address ?? "", "dev", "vxlan1", "dst", "10.9.0.2");
    expect(codes(examine())).toEqual(["claims-of-unknown-node", "no-peer"]);
    expect(codes(examine("--repair"))).toEqual(["claims-of-unknown-node"]);
    const { stdout } = dnet("gc", "--dry-run", elsewhere);
    expect(stdout).toBe(
      `would remove: ${elsewhere} (${elsewhere}): service far of network multi: detached from container cx\n`,
    );
    expect(codes(examine())).toEqual(["claims-of-unknown-node"]);
    expect(dnet("gc", elsewhere).stdout).toBe(
      `${elsewhere} (${elsewhere}): service far of network multi: detached from container cx\n`,
    );
    expectNothingFound();
    expect(inside(overlay(), "ip", "neighbor")).not.toContain(address);
    spoilt = true;
  });
});

describe("a damaged store", () => {
  const health = (): { readonly status: string; readonly reasons?: readonly string[] } =>
    JSON.parse(run("curl", "-s", "--unix-socket", "/var/run/dnet.sock", "http://localhost/healthz"));
  const wired = () => inside(sandbox().key, "ping", "-c1", "-W2", gateway());
  const gateway = () =>
    all<NetworkResource>("network", "ls")
      .find(({ name }) => name === "web")
      ?.subnets?.[0]?.gateway?.split("/")[0] ?? "";
  const garbage = "garbage ".repeat(4_000);

  it("whose copy is good: everything is there, it is said until it is accepted, and containers run on", async () => {
    await daemon.stop();
    writeFileSync(database, garbage);
    await start();
    expect(daemon.log).toContain("degraded: the local store was damaged");
    expect(health()).toMatchObject({
      status: "degraded",
      reasons: [expect.stringContaining("its copy took its place")],
    });
    expect(all<SandboxResource>("container", "ls").map(({ container_id }) => container_id)).toEqual(["c1"]);
    wired();
    expect(codes(examine())).toEqual(["records-lost"]);
    await whileStopped(() => undefined);
    expect(codes(examine())).toEqual(["records-lost"]);
    expectNothingFound("--repair");
    expect(health()).toMatchObject({ status: "ok" });
  });

  it("without a copy: what runs is kept though no record knows it, until it is accepted", async () => {
    const { key } = sandbox();
    await daemon.stop();
    writeFileSync(database, garbage);
    rmSync(`${database}.copy`);
    await start();
    inside(key, "ip", "address", "show", "dev", "eth0");
    expect(codes(examine())).toEqual(["orphan-sandbox", "records-lost"]);
    await whileStopped(() => undefined);
    inside(key, "ip", "address", "show", "dev", "eth0");
    expectNothingFound("--repair");
    expect(shell(`test -e ${key} && echo there || echo gone`)).toBe("gone\n");
    spoilt = true;
  });

  it("on a read-only file system: names are answered and shown, changes refused with the reason", async () => {
    const { key } = sandbox();
    await daemon.stop("SIGKILL");
    shell("mount -o remount,ro /var/lib/docker");
    try {
      await start();
      expect(health()).toMatchObject({ status: "degraded", reasons: [expect.stringContaining("EROFS")] });
      expect(all<SandboxResource>("container", "ls").map(({ container_id }) => container_id)).toEqual(["c1"]);
      const { status, stderr } = dnet("container", "create", "c2");
      expect(status).toBe(1);
      expect(stderr).toContain("the local store cannot be written");
      wired();
      expect(inside(key, "dig", "+short", "+timeout=2", "s1.web", "@127.0.0.11")).not.toBe("");
      expect(codes(examine())).toEqual(["store-not-writable"]);
      await daemon.stop();
    } finally {
      shell("mount -o remount,rw /var/lib/docker");
    }
    await start();
    expectNothingFound();
  });

  it("on a full disk: it starts, shows, refuses changes, and works on when there is room", async () => {
    const full = "/var/lib/docker/network/full";
    await daemon.stop("SIGKILL");
    shell("mount -o remount,size=8m /var/lib/docker");
    shell(
      `dd if=/dev/zero of=${full} bs=64k 2>/dev/null || true; dd if=/dev/zero of=${full}2 bs=1 2>/dev/null || true`,
    );
    try {
      await start();
      wired();
      const refused = dnet("container", "create", "c2");
      expect(refused.status).toBe(1);
      expect(refused.stderr).toContain("is the disk full or read-only?");
      expect(health().status).toBe("degraded");
      expect(codes(examine())).toEqual(["store-not-writable"]);
    } finally {
      shell(`rm -f ${full} ${full}2; mount -o remount,size=50% /var/lib/docker`);
    }
    ok("container", "create", "c2");
    ok("container", "rm", "c2");
    expectNothingFound();
  });

  it("with few descriptors it is said before they are used up", () => {
    const before = run("prlimit", `--pid=${daemon.pid}`, "--nofile", "--output=SOFT,HARD", "--noheadings")
      .trim()
      .split(/\s+/);
    run("prlimit", `--pid=${daemon.pid}`, `--nofile=100:${before[1]}`);
    expect(codes(examine())).toEqual(["few-descriptors"]);
    run("prlimit", `--pid=${daemon.pid}`, `--nofile=${before[0]}:${before[1]}`);
    expectNothingFound();
  });
});

it("without a daemon it says so, with a status of its own", async () => {
  await daemon.stop();
  const { status, stderr } = dnet("doctor");
  expect(status).toBe(2);
  expect(stderr).toContain("is the daemon running there?");
  expect(dnet("doctor", "--nonsense").status).toBe(2);
  await start();
});
