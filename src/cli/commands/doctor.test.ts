import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { FakeKernel } from "../../../test/fakes/fake-kernel.ts";
import { openFakeLibnetwork } from "../../../test/fakes/fake-libnetwork.ts";
import { createApi } from "../../api/server.ts";
import { main } from "../main.ts";

let server: Server;
let kernel: FakeKernel;
let place: string;

beforeEach(async () => {
  const opened = await openFakeLibnetwork();
  kernel = opened.kernel;
  server = createServer(createApi({ controller: opened.libnetwork, version: "9.9", log: () => undefined }));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  place = `tcp://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(() => server.close());

const dnet = async (...args: readonly string[]) => {
  let out = "";
  let err = "";
  const status = await main(["-H", place, ...args], {
    env: {},
    stdout: (text) => (out += text),
    stderr: (text) => (err += text),
    version: "9.9",
    runDaemon: async () => 0,
  });
  return { status, out, err };
};

describe("dnet doctor", () => {
  it("has the status 0 where nothing is found, and says what was looked at", async () => {
    const { status, out } = await dnet("doctor");
    expect(status).toBe(0);
    expect(out).toMatch(/^no differences found in local store, .* host\n$/);
  });

  it("has the status 1 where something is, with its consequence and remedy; and repairs it", async () => {
    await kernel.teardown([{ op: "link.delete", namespace: "host", name: "docker0" }]);
    const { status, out } = await dnet("doctor");
    expect(status).toBe(1);
    expect(out.split("\n").slice(0, 5)).toEqual([
      "network bridge: there is no link docker0",
      "   expected     bridge docker0 on the host",
      "   consequence  containers of the network do not reach each other on this host, or not the outside",
      expect.stringMatching(/^ {3}remedy {7}dnet doctor --repair; by hand it begins with: ip link add name docker0 /),
      "   code         link-differs",
    ]);
    const repaired = await dnet("doctor", "--repair", "--format", "json");
    expect(repaired.status).toBe(0);
    expect(JSON.parse(repaired.out)).toMatchObject({
      before: { findings: [{ code: "link-differs", repairable: true }] },
      after: { findings: [] },
    });
  });

  it("has the status 2 where it could not look", async () => {
    kernel.neighborTables = () => Promise.reject(new Error("no netlink"));
    expect(await dnet("doctor")).toMatchObject({
      status: 2,
      out: expect.stringContaining("could not look at host: no netlink\n"),
    });
    expect((await dnet("doctor", "extra")).status).toBe(2);
    expect((await dnet("doctor", "--format", "yaml")).status).toBe(2);
    await new Promise((resolve) => server.close(resolve));
    expect(await dnet("doctor")).toMatchObject({
      status: 2,
      err: expect.stringContaining("is the daemon running there?"),
    });
  });

  it("prints nothing that a terminal would obey", async () => {
    kernel.standing = [
      { table: "inet t", absent: false, missing: ["\u001b[2J"], extra: [], expected: 1, reordered: false },
    ];
    const { out } = await dnet("doctor");
    expect(out).toContain("?[2J");
    expect(out).not.toContain("\u001b");
  });
});

describe("dnet gc", () => {
  it("says that there is nothing, and refuses what is no node or alive", async () => {
    expect(await dnet("gc")).toMatchObject({ status: 0, out: "nothing to remove\n" });
    expect(await dnet("gc", "nosuch")).toMatchObject({ status: 1, err: "error : Resource not found: Node\n" });
  });
});

describe("GET /healthz", () => {
  it("says ok while all is well", async () => {
    const answer = await fetch(`${place.replace("tcp", "http")}/healthz`);
    expect(await answer.json()).toEqual({ status: "ok", repairs: 0 });
  });
});
