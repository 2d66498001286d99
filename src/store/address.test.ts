import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { runs } from "../../test/runs.ts";
import { parseStoreAddress } from "./address.ts";

describe("parseStoreAddress", () => {
  it.each([
    ["172.17.0.1:8500/custom_prefix", "172.17.0.1:8500", "custom_prefix"],
    ["172.17.0.1:8500", "172.17.0.1:8500", ""],
    ["consul:8500/", "consul:8500", ""],
    ["Consul-1.Example.com:1//a/b.c/d_e-f/", "consul-1.example.com:1", "a/b.c/d_e-f"],
    ["[2001:db8::1]:65535/x", "[2001:db8::1]:65535", "x"],
    ["10.0.0.1:08500/...", "10.0.0.1:8500", "..."],
  ])("reads %s", (text, server, prefix) => {
    expect(parseStoreAddress(text)).toEqual({ server, prefix });
  });

  it.each([
    "",
    "host",
    ":8500",
    "host:",
    "host:0",
    "host:65536",
    "host:123456",
    "host:8500/a b",
    "host:8500/..",
    "host:8500/a/../b",
    "host:8500/.",
    "host:8500/a//b",
    "host:8500/%2e%2e",
    "host:8500/é",
    `host:8500/${"a/".repeat(200)}b`,
    "ho st:8500",
    "user@host:8500",
    "host:8500\n",
    "http://host:8500",
    "1.2.3:8500",
    "0x7f.1:8500",
    "[::1%lo]:8500",
    "[127.0.0.1]:8500",
    "::1:8500",
    "-host:8500",
    `${"a".repeat(64)}:8500`,
  ])("refuses %j and says what an address is", (text) => {
    expect(() => parseStoreAddress(text)).toThrow(
      expect.objectContaining({ code: "invalid-store-address", kind: "bad-request", hint: expect.any(String) }),
    );
  });

  it("lets nothing through that a URL would read in another way", () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.stringMatching(/^[a-f0-9.:[\]%x-]{1,12}:\d{1,5}(\/[\w.%/-]{0,12})?$/)),
        (text) => {
          let address: ReturnType<typeof parseStoreAddress>;
          try {
            address = parseStoreAddress(text);
          } catch (error) {
            expect(error).toMatchObject({ code: "invalid-store-address" });
            return;
          }
          const { host, pathname } = new URL(`http://${address.server}/v1/kv/${address.prefix}/x`);
          expect(pathname).toBe(`/v1/kv/${address.prefix}/x`);
          if (!host.startsWith("[")) expect(host).toBe(address.server.replace(/:80$/, ""));
        },
      ),
      { numRuns: runs(2000) },
    );
  });
});
