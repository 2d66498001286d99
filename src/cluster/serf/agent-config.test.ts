import { describe, expect, it } from "vitest";
import { parseIp } from "../../net/ip.ts";
import { findProgram } from "./agent.ts";
import { agentConfigText, agentName, checkEncryptKey } from "./agent-config.ts";

describe("an agent's configuration", () => {
  const base = {
    name: "h-1",
    bind: parseIp("fd00::1"),
    port: 7946,
    rpcPort: 7373,
    rpcAuth: "token",
    tags: { id: "1" },
    debug: false,
  };

  it("has IPv6 addresses in brackets, and a key or another address only where there is one", () => {
    expect(JSON.parse(agentConfigText(base))).toMatchObject({ bind: "[fd00::1]:7946", rpc_addr: "127.0.0.1:7373" });
    expect(agentConfigText(base)).not.toMatch(/encrypt|advertise/);
    const more = { ...base, bind: parseIp("0.0.0.0"), advertise: parseIp("192.0.2.1"), encrypt: "key" };
    expect(JSON.parse(agentConfigText(more))).toMatchObject({
      bind: "0.0.0.0:7946",
      advertise: "192.0.2.1:7946",
      encrypt_key: "key",
    });
  });

  it("names the agent with letters that serf takes, whatever the host is called", () => {
    expect(agentName("web 1; reboot\n", "0a0b0c0d", 7946, 7946)).toBe("web-1--reboot--0a0b0c0d");
    expect(agentName("x".repeat(300), "0a0b0c0d", 7950, 7946)).toBe(`${"x".repeat(64)}-0a0b0c0d-7950`);
  });

  it("takes keys of 16, 24 and 32 bytes, and shows none", () => {
    for (const size of [16, 24, 32]) checkEncryptKey(Buffer.alloc(size, 1).toString("base64"));
    for (const key of [
      "",
      "not base64!",
      Buffer.alloc(17).toString("base64"),
      `${Buffer.alloc(16).toString("base64")}x`,
    ]) {
      expect(() => checkEncryptKey(key)).toThrow(/^invalid cluster\.encrypt: it is not base64 of 16, 24 or 32 bytes$/);
    }
  });
});

describe("a program", () => {
  it("is found by its name or path, or is not there", () => {
    expect(findProgram("sh")).toMatch(/^\/.*\/sh$/);
    expect(findProgram("/bin/sh")).toBe("/bin/sh");
    expect(findProgram("no-such-program")).toBeUndefined();
    expect(findProgram("/etc/passwd")).toBeUndefined();
    expect(findProgram("/bin")).toBeUndefined();
  });
});
