import { spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readlinkSync } from "node:fs";
import { connect, createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Lab } from "../../src/lab/lab.ts";
import type { LabState } from "../../src/lab/lab-state.ts";
import { enterOwnHost, eventually, expectNothingLeft, run } from "../own-host.ts";
import { dnet, ok } from "./dnet.ts";

const outside = "203.0.113.2";
/** A lab of three hosts and a store takes seconds; on a machine that others use, many. */
const long = 180_000;

beforeAll(() => enterOwnHost());
afterEach(async () => {
  // A test that failed: what it left must not fail the next one.
  for (const lab of await Lab.list()) await lab.down();
});
afterAll(() => expectNothingLeft());

const states = (): readonly LabState[] => JSON.parse(ok("lab", "ls", "--format", "json")) as LabState[];
const only = (): LabState => {
  const [state, ...others] = states();
  if (!state || others.length > 0) throw new Error("there is not exactly one lab");
  return state;
};
/** `dnet lab ARGS`, which must succeed and say nothing. */
const lab = (...args: readonly string[]): void => expect(ok("lab", ...args)).toBe("");
const onHost = (host: string, ...command: readonly string[]): string => ok("lab", "exec", host, "--", ...command);
const reaches = (host: string, target: string): boolean =>
  dnet("lab", "exec", host, "--", "ping", "-c1", "-W1", target).status === 0;

const pids = (): readonly string[] => readdirSync("/proc").filter((name) => /^\d+$/.test(name));
const namespace = (pid: string | number, kind: "net" | "mnt"): string => {
  try {
    return readlinkSync(`/proc/${pid}/ns/${kind}`);
  } catch {
    // Gone, or a zombie: it holds nothing.
    return "";
  }
};

/** Everything that a lab has: asked for while it runs, to be looked for afterwards. */
class Belongings {
  readonly #supervisor: number;
  readonly #namespaces: ReadonlySet<string>;
  readonly #ports: readonly number[];

  constructor({ supervisor, hosts, store, outside: behind, lan }: LabState) {
    const places = [...hosts, ...(store ? [store] : []), behind, lan];
    this.#namespaces = new Set(places.flatMap(({ pid }) => [namespace(pid, "net"), namespace(pid, "mnt")]));
    expect(this.#namespaces.size).toBe(2 * places.length);
    expect(this.processes.length).toBeGreaterThanOrEqual(places.length);
    this.#supervisor = supervisor;
    this.#ports = hosts.map(({ api }) => Number(api.split(":").at(-1)));
  }

  get processes(): readonly string[] {
    return pids().filter(
      (pid) =>
        Number(pid) === this.#supervisor ||
        this.#namespaces.has(namespace(pid, "net")) ||
        this.#namespaces.has(namespace(pid, "mnt")),
    );
  }

  async expectGone(base = "/run/dnet-lab"): Promise<void> {
    await eventually("no process of the lab is left", () => this.processes.length === 0, 30_000);
    await eventually("its directory is gone", () => !existsSync(base), 30_000);
    for (const port of this.#ports) {
      const answer = await new Promise((resolve) => {
        const socket = connect(port, "127.0.0.1", () => resolve("connected"));
        socket.once("error", ({ code }: Error & { code?: string }) => resolve(code));
      });
      expect(answer).toBe("ECONNREFUSED");
    }
    expect(states()).toEqual([]);
    expectNothingLeft();
  }
}

describe.each([
  {
    store: "etcd",
    read: ["etcdctl", "get", "--print-value-only", "greeting"],
    write: ["etcdctl", "put", "greeting", "hello"],
  },
  { store: "consul", read: ["consul", "kv", "get", "greeting"], write: ["consul", "kv", "put", "greeting", "hello"] },
])("a lab with $store", ({ store, read, write }) => {
  it(
    "comes up, is parted and healed, loses and gets back daemons, machines and the store, and leaves nothing behind",
    async () => {
      const { status, stdout, stderr } = dnet("lab", "up", "--hosts", "3", "--store", store);
      expect({ status, stderr }).toEqual({
        status: 0,
        stderr: expect.stringContaining(`store ${store} on 172.17.0.2:`),
      });
      expect(stdout).toContain("dnet -H tcp://127.0.0.1:41002");
      const state = only();
      const belongings = new Belongings(state);
      expect(state.hosts.map(({ name, address, api, daemon }) => [name, address, api, daemon])).toEqual([
        ["dnet-1", "172.17.0.3", "tcp://127.0.0.1:41000", "running"],
        ["dnet-2", "172.17.0.4", "tcp://127.0.0.1:41001", "running"],
        ["dnet-3", "172.17.0.5", "tcp://127.0.0.1:41002", "running"],
      ]);
      // The network that the caller lives in has not noticed.
      expectNothingLeft();

      // Each host is a machine of its own, and the caller reaches each one's daemon.
      for (const { name, api } of state.hosts) {
        expect(onHost(name, "hostname")).toBe(name);
        ok("-H", api, "network", "create", `on-${name}`);
        expect(onHost(name, "dnet", "network", "ls")).toContain(`on-${name}`);
        expect(onHost(name, "sh", "-c", "ls /sys/class/net").split("\n")).toContain("docker0");
        expect(reaches(name, outside)).toBe(true);
        expect(reaches(name, "store")).toBe(true);
      }
      expect(ok("-H", "tcp://127.0.0.1:41001", "network", "ls")).not.toContain("on-dnet-1");
      expect(reaches("dnet-1", "dnet-3")).toBe(true);
      expect(reaches("outside", "172.17.0.3")).toBe(false);
      expect(dnet("lab", "exec", "dnet-1", "--", "sh", "-c", "exit 7").status).toBe(7);

      // Partitions go both ways, add up, and end.
      lab("partition", "dnet-1", "dnet-2");
      lab("partition", "store", "dnet-1,dnet-3");
      expect([reaches("dnet-1", "dnet-2"), reaches("dnet-2", "dnet-1")]).toEqual([false, false]);
      expect([reaches("dnet-1", "store"), reaches("dnet-2", "store"), reaches("dnet-3", "store")]).toEqual([
        false,
        true,
        false,
      ]);
      expect(reaches("dnet-1", "dnet-3")).toBe(true);
      expect(ok("lab", "ls")).toContain("no traffic between dnet-1 and dnet-2");
      lab("heal");
      expect([reaches("dnet-1", "dnet-2"), reaches("dnet-1", "store")]).toEqual([true, true]);

      // The store is the real one; what it knows outlives its process.
      onHost("dnet-2", ...write);
      lab("store", "stop");
      expect(only().store?.server).toBe("stopped");
      expect(dnet("lab", "exec", "dnet-3", "--", "timeout", "2", ...read).status).not.toBe(0);
      lab("store", "start");
      expect(onHost("dnet-3", ...read)).toBe("hello");

      // A daemon that was killed leaves its sandboxes and finds them again.
      const two = ["-H", "tcp://127.0.0.1:41001"];
      ok(...two, "container", "create", "c1");
      const { key } = JSON.parse(ok(...two, "container", "info", "c1", "--format", "json")) as { key: string };
      lab("kill", "dnet-2");
      expect(only().hosts.map(({ daemon }) => daemon)).toEqual(["running", "stopped", "running"]);
      expect(dnet(...two, "container", "ls").status).toBe(1);
      onHost("dnet-2", "nsenter", `--net=${key}`, "ip", "link", "show", "lo");
      lab("start", "dnet-2");
      expect(ok(...two, "container", "ls")).toContain("c1");

      // A reboot takes what is in memory, a new machine the disk as well.
      lab("reboot", "dnet-2");
      expect(ok(...two, "container", "ls")).not.toContain("c1");
      expect(ok(...two, "network", "ls")).toContain("on-dnet-2");
      expect(reaches("dnet-2", "dnet-1")).toBe(true);
      lab("kill", "dnet-2");
      lab("start", "--fresh", "dnet-2");
      expect(ok(...two, "network", "ls")).not.toContain("on-dnet-2");
      expect(reaches("dnet-1", "dnet-2")).toBe(true);
      expect(ok("-H", "tcp://127.0.0.1:41000", "network", "ls")).toContain("on-dnet-1");
      expect(dnet("lab", "logs", "dnet-2").stdout).toContain("is ready");

      const later = new Belongings(only());
      lab("down");
      await later.expectGone();
      await belongings.expectGone();
    },
    long,
  );
});

describe("the end of a lab", () => {
  it.each(["supervisor", "first process"])(
    "by SIGKILL of its %s leaves nothing behind",
    async (victim) => {
      const running = await Lab.up({ hosts: 2, store: "etcd", detached: true });
      const state = await running.state();
      await running.host(1).run("dnet", "container", "create", "c1");
      const belongings = new Belongings(state);
      process.kill(victim === "supervisor" ? state.supervisor : state.lan.pid, "SIGKILL");
      await belongings.expectGone();
      await expect(Lab.open()).rejects.toMatchObject({ code: "no-lab" });
    },
    long,
  );

  it(
    "comes with its caller's, unless it is detached",
    async () => {
      const module = fileURLToPath(new URL("../../src/lab/lab.ts", import.meta.url));
      const program = `
      const { Lab } = await import(${JSON.stringify(module)});
      const lab = await Lab.up({ store: "embedded-single" });
      console.log(JSON.stringify(await lab.state()));
      setInterval(() => undefined, 1000);`;
      const caller = spawn(process.execPath, ["--input-type=module", "-e", program], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const state = await new Promise<LabState>((resolve) => {
        let text = "";
        caller.stdout.on("data", (chunk: Buffer) => {
          text += chunk.toString();
          if (text.endsWith("\n")) resolve(JSON.parse(text) as LabState);
        });
      });
      const belongings = new Belongings(state);
      expect(state.store).toBeUndefined();
      caller.kill("SIGKILL");
      await belongings.expectGone();
    },
    long,
  );

  it(
    "comes at once where the caller gives up while it is being set up",
    async () => {
      const interrupt = new AbortController();
      const up = Lab.up({
        hosts: 3,
        store: "etcd",
        signal: interrupt.signal,
        progress: () => interrupt.abort(new Error("enough")),
      });
      await expect(up).rejects.toThrow("enough");
      await eventually("its directory is gone", () => !existsSync("/run/dnet-lab"), 30_000);
      expectNothingLeft();
    },
    long,
  );
});

describe("a lab that cannot be had", () => {
  const refused = (...args: readonly string[]): string => {
    const { status, stderr } = dnet("lab", ...args);
    expect(status).toBe(1);
    return stderr;
  };

  it(
    "is refused with what to do instead",
    async () => {
      expect(refused("exec", "dnet-1", "--", "true")).toContain("start one with: dnet lab up");
      expect(refused("up", "--name", "../x")).toContain("invalid name of a lab");
      expect(refused("up", "--store", "zookeeper")).toContain("there are consul, etcd, embedded-single");
      expect(refused("up", "--hosts", "33")).toContain("1 to 32 hosts");
      expect(refused("up", "--hosts", "2", "--store", "embedded-single")).toContain("--hosts 1");
      const taken = createServer().listen(41_000, "127.0.0.1");
      await new Promise((resolve) => taken.once("listening", resolve));
      expect(refused("up", "--store", "embedded-single")).toContain("127.0.0.1:41000: EADDRINUSE");
      taken.close();
      expect(existsSync("/run/dnet-lab")).toBe(false);

      const first = await Lab.up({ store: "embedded-single" });
      expect(refused("up", "--store", "embedded-single")).toContain("the lab lab is running already");
      const second = await Lab.up({ store: "embedded-single", name: "second", port: 42_000 });
      expect(refused("heal")).toContain("several labs are running: lab, second");
      expect(refused("kill", "dnet-2", "--name", "lab")).toContain("it has dnet-1");
      expect(refused("partition", "dnet-1", "outside", "--name", "lab")).toContain('the lab has no "outside"');
      expect(refused("store", "stop", "--name", "lab")).toContain("no store of its own");
      await second.down();
      expect(await first.host(1).run("hostname")).toBe("dnet-1\n");
      await first.down();
      expectNothingLeft();
    },
    long,
  );

  it("says which package has a program that is missing", () => {
    const env = { PATH: process.env.PATH, DNET_CONSUL: "/nowhere/consul" };
    const executable = fileURLToPath(new URL("../../bin/dnet", import.meta.url));
    const { status, stderr } = spawnSync(executable, ["lab", "up", "--store", "consul"], { env, encoding: "utf8" });
    expect([status, stderr]).toEqual([1, "DNET_CONSUL names /nowhere/consul, which is no program\n"]);
  });
});

/** `dnet` of an ordinary user. */
const asUser = (...args: readonly string[]) =>
  spawnSync(
    "setpriv",
    [
      "--reuid=65534",
      "--regid=65534",
      "--clear-groups",
      fileURLToPath(new URL("../../bin/dnet", import.meta.url)),
      ...args,
    ],
    { encoding: "utf8", env: { PATH: process.env.PATH, XDG_RUNTIME_DIR: "/run/user-65534" }, timeout: 60_000 },
  );
/** Kernels and distributions may forbid user namespaces to ordinary users. */
const userNamespaces =
  spawnSync("setpriv", [
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "unshare",
    "--user",
    "--map-root-user",
    "true",
  ]).status === 0;

describe("an ordinary user's lab", () => {
  it.skipIf(!userNamespaces)(
    "works the same in a user namespace, and root does not see it",
    async () => {
      run("install", "-d", "-o", "65534", "-g", "65534", "-m", "700", "/run/user-65534");
      const { status, stderr } = asUser("lab", "up", "--hosts", "2", "--store", "etcd");
      expect({ status, stderr }).toEqual({
        status: 0,
        stderr: expect.stringContaining("host dnet-2 on 172.17.0.4 ready"),
      });
      const [state] = JSON.parse(asUser("lab", "ls", "--format", "json").stdout) as LabState[];
      if (!state) throw new Error("the lab is not listed");
      const belongings = new Belongings(state);
      expect(state.userNamespace).toBe(true);
      expect(states()).toEqual([]);
      const inside = (script: string) => asUser("lab", "exec", "dnet-1", "--", "sh", "-ec", script);
      expect(inside(`ping -c1 dnet-2; ping -c1 ${outside}; hostname`)).toMatchObject({ status: 0 });
      const sandbox = `
      dnet network create web; dnet container create c1; dnet service publish c1.web; dnet service attach c1 c1.web
      nsenter --net=$(ls /run/docker/netns/*) ping -c1 ${outside}`;
      expect(inside(sandbox)).toMatchObject({ status: 0 });
      expect(asUser("-H", "tcp://127.0.0.1:41001", "network", "ls").stdout).toContain("bridge");
      expect(asUser("lab", "partition", "dnet-1", "dnet-2").status).toBe(0);
      expect(inside("ping -c1 -W1 dnet-2").status).toBe(1);
      expect(asUser("lab", "heal").status).toBe(0);
      expect(asUser("lab", "reboot", "dnet-2").stderr).toBe("");
      expect(inside("ping -c1 -W1 dnet-2").status).toBe(0);
      process.kill(state.supervisor, "SIGKILL");
      await belongings.expectGone("/run/user-65534/dnet-lab");
      run("rmdir", "/run/user-65534");
    },
    long,
  );
});
