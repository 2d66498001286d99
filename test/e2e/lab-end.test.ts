import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { Lab } from "../../src/lab/lab.ts";
import type { LabState } from "../../src/lab/lab-state.ts";
import { enterOwnHost, eventually, expectNothingLeft, run } from "../own-host.ts";
import { dnet } from "./dnet.ts";
import { Belongings, namespace, states } from "./lab-belongings.ts";

vi.setConfig({ testTimeout: 180_000 });

beforeAll(() => enterOwnHost());
afterEach(async () => {
  // A test that failed: what it left must not fail the next one.
  for (const lab of await Lab.list()) await lab.down();
});
afterAll(() => expectNothingLeft());

describe("the end of a lab", () => {
  it.each(["supervisor", "first process"])("by SIGKILL of its %s leaves nothing behind", async (victim) => {
    const running = await Lab.up({ hosts: 2, store: "etcd", detached: true });
    const state = await running.state();
    await running.host(1).run("dnet", "container", "create", "c1");
    const belongings = new Belongings(state);
    process.kill(victim === "supervisor" ? state.supervisor : state.lan.pid, "SIGKILL");
    await belongings.expectGone();
    await expect(Lab.open()).rejects.toMatchObject({ code: "no-lab" });
  });

  it("leaves a directory where supervisor and first process die at once, which the next command removes", async () => {
    const state = await (await Lab.up({ store: "embedded-single", detached: true })).state();
    process.kill(state.supervisor, "SIGSTOP");
    process.kill(state.lan.pid, "SIGKILL");
    process.kill(state.supervisor, "SIGKILL");
    await eventually("its supervisor is gone", () => namespace(state.supervisor, "net") === "");
    expect(existsSync(state.directory)).toBe(true);
    expect(states()).toEqual([]);
    expect(existsSync(state.directory)).toBe(false);
    expect(dnet("lab", "heal").stderr).toContain("no lab is running");
    const again = await Lab.up({ store: "embedded-single" });
    const belongings = new Belongings(await again.state());
    await again.down();
    await belongings.expectGone();
  });

  it("comes with its caller's, unless it is detached", async () => {
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
  });

  it("comes although daemon and store are stopped, as SIGSTOP does it", async () => {
    const running = await Lab.up({ hosts: 2, store: "etcd", detached: true });
    const belongings = new Belongings(await running.state());
    const stop = 'kill -STOP "$(cat "/run/lab/$0.pid")"';
    const daemon = () => running.host(1).run("sh", "-ec", stop, "dnet");
    await daemon();
    await running.host(1).kill("TERM");
    await running.host(1).start();
    await daemon();
    await running.host(1).reboot();
    await daemon();
    await running.store.run("sh", "-ec", stop, "store");
    await running.down();
    await belongings.expectGone();
  });

  // At the first word places are just being made: several times, for what is under way differs.
  it.each([0, 0, 0, 0, 100, 300, 900])(
    "comes at once where the caller gives up %i ms after its first word",
    async (ms) => {
      const interrupt = new AbortController();
      let timer: NodeJS.Timeout | undefined;
      const up = Lab.up({
        hosts: 3,
        store: "etcd",
        signal: interrupt.signal,
        progress: () => {
          timer ??= setTimeout(() => interrupt.abort(new Error("enough")), ms);
        },
      });
      await expect(up).rejects.toThrow("enough");
      clearTimeout(timer);
      await eventually("its directory is gone", () => !existsSync("/run/dnet-lab"), 30_000);
      expectNothingLeft();
    },
  );
});

it("covers directories that the machine does not have, without making them", async () => {
  // As on a machine that never had Docker: in copies, since the directories themselves are the machine's.
  run("mount", "-t", "tmpfs", "tmpfs", "/var/lib");
  run("cp", "-a", "/etc", "/run/etc");
  run("rmdir", "/run/etc/docker");
  run("mount", "--bind", "/run/etc", "/etc");
  try {
    await using lab = await Lab.up({ store: "embedded-single" });
    expect(await lab.host(1).run("ls", "/var/lib/docker")).toBe("network\n");
    await lab.host(1).run("touch", "/etc/docker/kept");
    await lab.host(1).reboot();
    expect(await lab.host(1).run("ls", "/etc/docker")).toBe("kept\n");
    expect([existsSync("/var/lib/docker"), existsSync("/etc/docker")]).toEqual([false, false]);
  } finally {
    run("umount", "/var/lib");
    run("umount", "/etc");
    run("rm", "-r", "/run/etc");
  }
});

describe("a lab that cannot be had", () => {
  const refused = (...args: readonly string[]): string => {
    const { status, stderr } = dnet("lab", ...args);
    expect(status).toBe(1);
    return stderr;
  };

  it("is refused with what to do instead", async () => {
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
  });

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
    { encoding: "utf8", env: { PATH: process.env.PATH, XDG_RUNTIME_DIR: "/run/user-65534" }, timeout: 150_000 },
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
  it("is the only one that the user may use", async () => {
    await using roots = await Lab.up({ store: "embedded-single" });
    expect(dnet("-H", "tcp://127.0.0.1:41000", "network", "ls").status).toBe(0);
    const { status, stderr } = asUser("-H", "tcp://127.0.0.1:41000", "network", "ls");
    expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringContaining("belongs to another user") });
    expect(asUser("lab", "kill", "dnet-1").stderr).toContain("no lab is running");
    expect((await roots.state()).userNamespace).toBe(false);
  });

  it.skipIf(!userNamespaces)("works the same in a user namespace, and root does not see it", async () => {
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
    expect(inside(`ping -c1 dnet-2; ping -c1 203.0.113.2; hostname`)).toMatchObject({ status: 0 });
    const sandbox = `
      dnet network create web; dnet container create c1; dnet service publish c1.web; dnet service attach c1 c1.web
      nsenter --net=$(ls /run/docker/netns/*) ping -c1 203.0.113.2`;
    expect(inside(sandbox)).toMatchObject({ status: 0 });
    expect(asUser("-H", "tcp://127.0.0.1:41001", "network", "ls").stdout).toContain("bridge");
    expect(asUser("lab", "partition", "dnet-1", "dnet-2").status).toBe(0);
    expect(inside("ping -c1 -W1 dnet-2").status).toBe(1);
    expect(asUser("lab", "heal").status).toBe(0);
    expect(asUser("lab", "reboot", "dnet-2").stderr).toBe("");
    expect(inside("ping -c1 -w10 dnet-2").status).toBe(0);
    process.kill(state.supervisor, "SIGKILL");
    await belongings.expectGone("/run/user-65534/dnet-lab");
    run("rmdir", "/run/user-65534");
  });
});
