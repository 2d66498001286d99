import { mkdtempSync, rmSync } from "node:fs";
import type { Server } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Opened, openController } from "../../test/fakes/open-controller.ts";
import { createApi } from "../api/server.ts";
import { listen } from "../daemon/listen.ts";
import { type DaemonFlags, main } from "./main.ts";

/** The command line against the API of a controller on fakes; texts and columns are those recorded with the original. */

let directory: string;
let opened: Opened;
let server: Server;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "dnet-cli-"));
  opened = await openController({ defaultNetwork: "bridge" });
  const api = createApi({ controller: opened.libnetwork, version: "1.2.3", log: () => undefined });
  server = await listen({ kind: "unix", path: join(directory, "dnet.sock") }, api);
});
afterEach(async () => {
  await new Promise((done) => server.close(done));
  await opened.libnetwork.close();
  rmSync(directory, { recursive: true });
});

interface Ran {
  readonly status: number;
  readonly out: string;
  readonly err: string;
  readonly daemon?: DaemonFlags;
}

const run = async (args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> => {
  let [out, err] = ["", ""];
  let daemon: DaemonFlags | undefined;
  const status = await main(args, {
    env: { DNET_HOST: `unix://${join(directory, "dnet.sock")}`, ...env },
    version: "1.2.3",
    stdout: (text) => {
      out += text;
    },
    stderr: (text) => {
      err += text;
    },
    runDaemon: async (options) => {
      daemon = options;
      return 0;
    },
  });
  return { status, out, err, ...(daemon && { daemon }) };
};

/** What a command printed; it must succeed and complain of nothing. */
const ok = async (...args: readonly string[]): Promise<string> => {
  const { status, out, err } = await run(args);
  expect({ args, status, err }).toEqual({ args, status: 0, err: "" });
  return out;
};
/** What a command complained of; it must fail. */
const refused = async (...args: readonly string[]): Promise<string> => {
  const { status, err } = await run(args);
  expect({ args, status }).toEqual({ args, status: 1 });
  return err;
};
const short = (id: string): string => id.slice(0, 12);
const words = (...cells: readonly string[]): string => cells.map((cell) => cell.padEnd(20)).join("");

describe("the commands of the walk-through", () => {
  it("print ids, tables and nothing, as the original does", async () => {
    const network = (await ok("network", "create", "-d", "test", "multihost")).trim();
    expect(network).toMatch(/^[0-9a-f]{64}$/);
    expect((await ok("network", "ls")).split("\n")).toContain(words(short(network), "multihost", "test"));
    expect(await ok("network", "ls")).toMatch(/^NETWORK ID {10}NAME {16}TYPE\n/);

    const service = (await ok("service", "publish", "svc.multihost")).trim();
    expect(await ok("service", "ls")).toBe(
      `${words("SERVICE ID", "NAME", "NETWORK", "CONTAINER")}SANDBOX\n${words(short(service), "svc", "multihost", "")}\n`,
    );
    const sandbox = (await ok("container", "create", "container_0")).trim();
    expect(await ok("service", "attach", "container_0", "svc.multihost")).toBe("");
    expect((await ok("service", "ls")).split("\n")[1]).toBe(
      `${words(short(service), "svc", "multihost", "container_0")}${short(sandbox)}`,
    );
    await ok("container", "create", "container_00");
    expect(await refused("service", "attach", "container_00", "svc.multihost")).toMatch(
      /^error : another container is attached to the same network endpoint\n/,
    );
    expect(await refused("network", "rm", "multihost")).toContain(
      `error : network multihost id ${network} has active endpoints\n`,
    );
    expect(await refused("service", "unpublish", "svc.multihost")).toContain(
      `error : service with name svc id ${service} has active containers\n`,
    );
    expect(await ok("service", "detach", "container_0", "svc.multihost")).toBe("");
    expect(await ok("service", "unpublish", "svc.multihost")).toBe("");
    for (const name of ["container_0", "container_00"]) expect(await ok("container", "rm", name)).toBe("");
    expect(await ok("network", "rm", "multihost")).toBe("");
  });
});

describe("lists", () => {
  it("take -q, -n, -l, --no-trunc, --net and --format json", async () => {
    const ids = [];
    for (const name of ["one", "two", "three"]) ids.push((await ok("network", "create", name)).trim());
    expect((await ok("network", "ls", "-q")).split("\n")).toEqual(expect.arrayContaining(ids.map(short)));
    expect((await ok("network", "ls", "-q", "--no-trunc")).split("\n")).toEqual(expect.arrayContaining(ids));
    expect((await ok("network", "ls", "-q", "-n", "2")).trim().split("\n")).toHaveLength(2);
    expect((await ok("network", "ls", "-q", "-l")).trim().split("\n")).toHaveLength(1);
    const names = (JSON.parse(await ok("network", "ls", "--format", "json")) as { name: string }[]).map(
      ({ name }) => name,
    );
    expect(names).toEqual(expect.arrayContaining(["bridge", "one", "two", "three"]));
    await ok("service", "publish", "a.one");
    await ok("service", "publish", "b.two");
    expect((await ok("service", "ls", "-q", "--net", "two")).trim().split("\n")).toHaveLength(1);
    expect(await ok("service", "ls", "--net", "two")).not.toContain(" a ");
  });

  it("widen their columns for long names", async () => {
    const long = "n".repeat(40);
    await ok("network", "create", long);
    expect(await ok("network", "ls")).toContain(`${long}   bridge`);
  });
});

describe("what is named", () => {
  it("is found by its exact name first, then by four digits of its id or more, and by nothing else", async () => {
    const id = (await ok("network", "create", "web")).trim();
    for (const text of ["", "w", id.slice(0, 3), "we", "*", "a/../b", "web."]) {
      expect(await refused("network", "rm", text)).toBe(`resource not found ${text}\n`);
    }
    // A network whose name looks like the other's id.
    const alias = id.slice(0, 6);
    const other = (await ok("network", "create", alias)).trim();
    expect(JSON.parse(await ok("network", "info", alias, "--format", "json"))).toMatchObject({ id: other });
    expect(JSON.parse(await ok("network", "info", id.slice(0, 8), "--format", "json"))).toMatchObject({ id });
    await ok("network", "rm", id.slice(0, 8));
    expect(await refused("network", "rm", "web")).toBe("resource not found web\n");
  });

  it("is refused in the original's words where it does not exist", async () => {
    expect(await refused("service", "info", "s.nosuch")).toBe("Network nosuch does not exist\n");
    expect(await refused("service", "info", "s.bridge")).toBe("Service s not found on network bridge\n");
    expect(await refused("service", "publish", "s.nosuch")).toMatch(/^error : Resource not found: Network\n/);
    expect(await refused("service", "attach", "nosuch", "s.bridge")).toBe(
      "cannot find sandbox for container: nosuch\n",
    );
    expect(await refused("container", "rm", "nosuch")).toBe("No sandbox for container nosuch found\n");
  });

  it("is on the default network without a dot, and on the one after the last dot with", async () => {
    await ok("network", "create", "web");
    await ok("service", "publish", "plain");
    await ok("service", "publish", "a.b.web");
    expect(await ok("service", "info", "plain")).toContain("\tNetwork: bridge\n");
    expect(await ok("service", "info", "a.b.web")).toMatch(/\tName: a\.b\n\tNetwork: web\n/);
  });
});

describe("details", () => {
  it("show addresses, gateway, options and peers", async () => {
    await ok(
      ...["network", "create", "--subnet", "10.50.0.0/16", "--ip-range", "10.50.1.0/24", "--gateway", "10.50.0.9"],
      ...["-o", "com.docker.network.driver.mtu=1400", "db"],
    );
    await ok("container", "create", "c1");
    await ok("service", "publish", "--alias", "postgres", "--ip", "10.50.1.7", "s.db");
    await ok("service", "attach", "--alias", "c2:other", "c1", "s.db");
    const network = await ok("network", "info", "db");
    expect(network).toContain("Subnet: 10.50.0.0/16 (endpoints from 10.50.1.0/24)\nGateway: 10.50.0.9");
    expect(network).toContain("\tcom.docker.network.driver.mtu=1400\n");
    expect(network).toContain("\ts  10.50.1.7/16  02:42:0a:32:01:07  c1\n");
    const service = await ok("service", "info", "s.db");
    for (const line of ["Addresses: 10.50.1.7/16", "Aliases: postgres", "Container: c1", "Interface: eth0"])
      expect(service).toContain(`\t${line}\n`);
    expect(await ok("container", "info", "c1")).toMatch(
      /\teth0 {2}s\.db {2}10\.50\.1\.7\/16 .*\nEnter it: nsenter --net=/,
    );
  });
});

describe("what makes no sense", () => {
  it.each([
    [["bogus"], "dnet: 'bogus' is not a dnet command."],
    [["netwrok", "ls"], "Did you mean 'dnet network'?"],
    [["network", "lss"], "Did you mean 'dnet network ls'?"],
    [["network"], 'dnet: "network" requires a minimum of 1 argument.'],
    [["network", "create"], 'dnet: "create" requires 1 argument.'],
    [["service", "attach", "c1"], 'dnet: "attach" requires a minimum of 2 arguments.'],
    [["container", "create"], "Please provide container id argument"],
    [["network", "create", "--bogus", "n"], "flag provided but not defined: --bogus"],
    [["--bogus"], "flag provided but not defined: --bogus"],
    [["network", "create", "-o", "=x", "n"], 'invalid opt: "=x" has no name'],
    [["network", "ls", "-n", "x"], "not a number"],
    [["service", "ls", "--format", "xml"], "it is table or json"],
    [["-l", "bogus", "network", "ls"], "Unable to parse logging level: bogus"],
    [["-d", "network"], "a daemon takes no command"],
    [["network", "create", "a b"], "error : invalid name: a b"],
    [["network", "create", "--subnet", "10.1.0.0/33", "n"], "Invalid Address Pool"],
  ])("%j ends with status 1 and says why on standard error", async (args, reason) => {
    expect(await refused(...args)).toContain(reason);
  });

  it.each([
    ["tcp://127.0.0.1:1", "connection refused"],
    ["unix:///nosuch/dnet.sock", "no such file or directory"],
    ["foo://x", "only supports tcp and unix transport"],
    ["garbage:x", 'invalid port ":x"'],
  ])("a daemon at %s cannot be reached, with what to do", async (host, reason) => {
    for (const { status, err } of [
      await run(["network", "ls"], { DNET_HOST: host }),
      await run(["-H", host, "network", "ls"]),
    ]) {
      expect(status).toBe(1);
      expect(err).toContain(reason);
    }
  });

  it("an answer that is not a daemon's is no answer", async () => {
    const path = join(directory, "other.sock");
    const other = createServer((socket) => {
      socket.on("error", () => undefined);
      socket.end("SSH-2.0-other\r\n");
    }).listen(path);
    const { status, err } = await run(["network", "ls"], { DNET_HOST: `unix://${path}` });
    other.close();
    expect({ status, err }).toMatchObject({ status: 1, err: expect.stringContaining("not that of a dnet daemon") });
  });
});

describe("help", () => {
  it.each([[[]], [["--help"]], [["-h"]], [["help"]]])("%j teaches the commands", async (args) => {
    const text = await ok(...args);
    for (const word of ["network", "service", "container", "--host", "--cfg-file"]) expect(text).toContain(word);
  });
  it("of a command shows its flags and examples", async () => {
    expect(await ok("network", "create", "--help")).toMatch(/--subnet[\s\S]*dnet network create -d bridge --subnet/);
    expect(await ok("help", "service", "attach")).toContain("CONTAINER SERVICE[.NETWORK]");
    expect(await ok("--version")).toBe("dnet version 1.2.3\n");
  });
});

it("-d runs the daemon with what was asked for", async () => {
  const { daemon } = await run(["-d", "-D", "-l", "warn", "-H", "tcp://0.0.0.0:4567", "-c", "/etc/dnet.toml"]);
  expect(daemon).toEqual({ debug: true, logLevel: "warn", host: "tcp://0.0.0.0:4567", configPath: "/etc/dnet.toml" });
});
