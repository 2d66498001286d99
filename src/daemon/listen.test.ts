import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { addressText, isLoopback, listen, parseListenAddress } from "./listen.ts";

describe("addresses", () => {
  it.each([
    ["tcp://0.0.0.0:4567", { kind: "tcp", host: "0.0.0.0", port: 4567 }],
    ["tcp://127.0.0.1", { kind: "tcp", host: "127.0.0.1", port: 2385 }],
    ["tcp://[::1]:80", { kind: "tcp", host: "::1", port: 80 }],
    ["127.0.0.1:41000", { kind: "tcp", host: "127.0.0.1", port: 41000 }],
    ["tcp://:41000", { kind: "tcp", host: "127.0.0.1", port: 41000 }],
    ["unix:///run/x.sock", { kind: "unix", path: "/run/x.sock" }],
  ])("%s", (text, address) => expect(parseListenAddress(text)).toEqual(address));

  it.each([
    ["http://127.0.0.1:1", "only supports tcp and unix"],
    ["tcp://256.0.0.1:1", "is not an IP address"],
    ["tcp://example.org:1", "is not an IP address"],
    ["tcp://127.0.0.1:99999", "is not a port"],
    ["tcp://127.0.0.1:x", "it has the form"],
    ["tcp://127.0.0.1:1/path", "it has the form"],
    ["unix://relative", "must be absolute"],
    [`unix:///${"x".repeat(107)}`, "at most 107 bytes"],
  ])("%s is refused", (text, reason) => expect(() => parseListenAddress(text)).toThrow(reason));

  it("are written as clients use them", () => {
    expect(addressText({ kind: "tcp", host: "::1", port: 1 })).toBe("tcp://[::1]:1");
    expect(["127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.1"].map(isLoopback)).toEqual([
      true,
      true,
      true,
      false,
      false,
    ]);
  });
});

describe("the unix socket", () => {
  let directory: string;
  let path: string;
  const servers: Server[] = [];
  const start = async () => {
    const server = await listen({ kind: "unix", path }, (_, response) => response.end("here"));
    servers.push(server);
    return server;
  };
  const ask = () =>
    new Promise<string>((resolve, reject) => {
      request({ socketPath: path, agent: false }, (response) => response.on("data", (chunk) => resolve(String(chunk))))
        .on("error", reject)
        .end();
    });
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "dnet-listen-"));
    path = join(directory, "deep", "dnet.sock");
  });
  afterEach(async () => {
    for (const server of servers.splice(0)) {
      await new Promise((done) => {
        server.close(done);
        server.closeAllConnections();
      });
    }
    rmSync(directory, { recursive: true });
  });

  it("is for root and its group", async () => {
    await start();
    expect(statSync(path).mode & 0o777).toBe(0o660);
    expect(await ask()).toBe("here");
  });

  it("of a live daemon is left to it", async () => {
    await start();
    await expect(start()).rejects.toThrow("another daemon answers there");
    expect(await ask()).toBe("here");
  });

  it("of a dead daemon is replaced", async () => {
    // A child that binds the path and dies without removing it.
    path = join(directory, "dnet.sock");
    const program = 'require("net").createServer().listen(process.argv[1], () => process.kill(process.pid, "SIGKILL"))';
    spawnSync(process.execPath, ["-e", program, path]);
    expect(statSync(path).isSocket()).toBe(true);
    await start();
    expect(await ask()).toBe("here");
  });

  it("is never put in the place of a file", async () => {
    path = join(directory, "file");
    writeFileSync(path, "mine");
    await expect(start()).rejects.toThrow("there is a file that is no socket");
    expect(existsSync(path)).toBe(true);
  });

  it("says what to do when the port is taken", async () => {
    const server = await listen({ kind: "tcp", host: "127.0.0.1", port: 0 }, () => undefined);
    servers.push(server);
    const bound = server.address();
    const port = typeof bound === "object" && bound ? bound.port : 0;
    await expect(listen({ kind: "tcp", host: "127.0.0.1", port }, () => undefined)).rejects.toMatchObject({
      message: `listen tcp://127.0.0.1:${port}: bind: address already in use`,
      hint: expect.stringContaining("-H") as string,
    });
  });
});
