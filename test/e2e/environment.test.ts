import { writeFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { enterOwnHost, expectNothingLeft, inside, run, sweep } from "../own-host.ts";
import { DaemonProcess, dnet, dnetIn, ok } from "./dnet.ts";

/** What the environment says to daemon and command line, and what is stronger than it. */

const config = "/run/own.toml";
const tcp = "tcp://127.0.0.1:4568";
let daemon: DaemonProcess | undefined;

beforeAll(() => {
  enterOwnHost();
  writeFileSync(
    config,
    '[daemon]\ndefaultNetwork = "mine"\ndefaultDriver = "null"\nhosts = ["unix:///run/file.sock"]\n',
  );
});
afterEach(async () => {
  await daemon?.stop("SIGKILL");
  daemon = undefined;
  sweep();
});
afterAll(expectNothingLeft);

const networks = (host: string) => ok("-H", host, "network", "ls", "-q");

describe("LIBNETWORK_CFG", () => {
  it("names the daemon's configuration file, which -c overrides", async () => {
    daemon = await DaemonProcess.startIn({ LIBNETWORK_CFG: config });
    expect(networks("unix:///run/file.sock")).not.toBe("");
    expect(ok("-H", "unix:///run/file.sock", "network", "info", "mine")).toContain("null");
    await daemon.stop();
    writeFileSync("/run/other.toml", '[daemon]\ndefaultNetwork = "other"\nhosts = ["unix:///run/other.sock"]\n');
    daemon = await DaemonProcess.startIn({ LIBNETWORK_CFG: config }, "-c", "/run/other.toml");
    expect(ok("-H", "unix:///run/other.sock", "network", "info", "other")).toContain("bridge");
    ok("-H", "unix:///run/other.sock", "network", "rm", "other");
  });

  it("that names no file ends the daemon with the reason; empty it is as if it were not there", async () => {
    const { status, stderr, stdout } = dnetIn({ LIBNETWORK_CFG: "/run/nosuch.toml" }, "-d");
    expect(status).toBe(1);
    expect(stdout + stderr).toContain("Error parsing config open /run/nosuch.toml: no such file or directory");
    daemon = await DaemonProcess.startIn({ LIBNETWORK_CFG: "" });
    ok("network", "rm", "bridge");
  });
});

describe("DNET_HOST", () => {
  it("says where the daemon listens and where commands ask, which -H overrides", async () => {
    daemon = await DaemonProcess.startIn({ DNET_HOST: tcp, LIBNETWORK_CFG: config });
    expect(daemon.log).toContain(`API listens on ${tcp}`);
    const asked = dnetIn({ DNET_HOST: tcp }, "network", "ls");
    expect(asked).toMatchObject({ status: 0, stdout: expect.stringContaining("mine") });
    expect(dnetIn({ DNET_HOST: "unix:///run/nosuch.sock" }, "-H", tcp, "network", "ls").stdout).toBe(asked.stdout);
    // The file's own address is not listened on then.
    expect(dnet("-H", "unix:///run/file.sock", "network", "ls").status).toBe(1);
    expect(dnet("network", "ls").stderr).toContain("DNET_HOST");
    await daemon.stop();
    daemon = await DaemonProcess.startIn({ DNET_HOST: tcp, LIBNETWORK_CFG: config }, "-H", "unix:///run/flag.sock");
    expect(networks("unix:///run/flag.sock")).not.toBe("");
    expect(dnetIn({ DNET_HOST: tcp }, "network", "ls").status).toBe(1);
  });

  it("that is no address is refused by both", () => {
    const { status, stdout, stderr } = dnetIn({ DNET_HOST: "smtp://x" }, "-d");
    expect(status).toBe(1);
    expect(stdout + stderr).toContain("smtp://x");
    expect(dnetIn({ DNET_HOST: "smtp://x" }, "network", "ls")).toMatchObject({
      status: 1,
      stderr: "dnet currently only supports tcp and unix transport\n",
    });
  });
});

describe("few descriptors", () => {
  const health = () => JSON.parse(run("curl", "-s", "--unix-socket", "/var/run/dnet.sock", "http://localhost/healthz"));

  it("are said at the start, which goes as far as they do: what is there is shown and can be changed", async () => {
    daemon = await DaemonProcess.start();
    for (let n = 0; n < 12; n++) {
      ok("container", "create", `c${n}`);
      ok("service", "publish", `s${n}.bridge`);
      ok("service", "attach", `c${n}`, `s${n}.bridge`);
    }
    await daemon.stop();
    daemon = await DaemonProcess.startWithFiles(64);
    expect(daemon.log).toContain("degraded: it may open 64 files only: resolvers of containers may not run");
    expect(health()).toMatchObject({ status: "degraded", reasons: [expect.stringContaining("64 files only")] });
    expect(ok("container", "ls", "-q").split("\n")).toHaveLength(12);
    ok("network", "create", "more");
    ok("network", "rm", "more");
    for (let n = 0; n < 12; n++) ok("container", "rm", `c${n}`);
    ok("network", "rm", "bridge");
  });

  it("that are too few end it at once, with what to do", async () => {
    await expect(DaemonProcess.startWithFiles(63)).rejects.toThrow(
      "it may open 63 files only, and needs 64 at least (start it with a higher limit: LimitNOFILE= of systemd, or ulimit -n)",
    );
    await expect(DaemonProcess.startWithFiles(32)).rejects.toThrow("it may open 32 files only");
  });
});

it("46: programs may keep a name's address for as long as dnsTtl says, and not at all without it", async () => {
  for (const [line, ttl] of [
    ["", 0],
    ["dnsTtl = 30\n", 30],
  ] as const) {
    writeFileSync("/run/ttl.toml", `[daemon]\n${line}`);
    daemon = await DaemonProcess.start("-c", "/run/ttl.toml");
    if (ttl === 0) {
      ok("container", "create", "c1");
      ok("service", "publish", "web.bridge");
      ok("service", "attach", "c1", "web.bridge");
    }
    const { key } = JSON.parse(ok("container", "info", "c1", "--format", "json")) as { key: string };
    expect(inside(key, "dig", "+noall", "+answer", "+timeout=2", "web", "@127.0.0.11")).toMatch(
      new RegExp(`^web\\.\\s+${ttl}\\s+IN\\s+A\\s`),
    );
    await daemon.stop();
  }
});
