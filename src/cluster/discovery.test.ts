import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { runs } from "../../test/runs.ts";
import { NetworkError } from "../errors.ts";
import { VirtualClock } from "../store/memory/virtual-clock.ts";
import { parseDiscovery, parseNodeList, samePlace } from "./discovery.ts";
import { joinText, tryParseJoinAddress } from "./join-address.ts";
import { followNodeFile } from "./node-file.ts";

describe("discovery URLs", () => {
  it.each([
    [
      "consul://172.17.0.1:8500/custom_prefix",
      { scheme: "consul", servers: ["172.17.0.1:8500"], prefix: "custom_prefix" },
    ],
    ["etcd://a:2379,[fd00::1]:2379/p/q/", { scheme: "etcd", servers: ["a:2379", "[fd00::1]:2379"], prefix: "p/q" }],
    ["CONSUL://h:1", { scheme: "consul", servers: ["h:1"], prefix: "" }],
    [
      "nodes://10.0.0.1, h2:99,[2001:db8::1]:7,2001:db8::2",
      {
        scheme: "nodes",
        addresses: [
          { host: "10.0.0.1" },
          { host: "h2", port: 99 },
          { host: "2001:db8::1", port: 7 },
          { host: "2001:db8::2" },
        ],
      },
    ],
    ["file:///etc/dnet/nodes", { scheme: "file", path: "/etc/dnet/nodes" }],
  ])("%s", (text, spec) => expect(parseDiscovery(text)).toEqual(spec));

  it.each([
    ["zk://127.0.0.1:2181", "it begins with one of consul://, etcd://, nodes://, file://"],
    ["172.17.0.1:8500", "it begins with one of"],
    ["consul://172.17.0.1/p", '"172.17.0.1" is not of the form host:port'],
    ["consul://a:1,b:1/p", "consul has one address"],
    ["consul://a:1/../p", "the prefix"],
    ["consul://a:1//p", "the prefix"],
    ["consul://a:1/p?dc=x", "the prefix"],
    ["etcd://u:p@a:1/p", "is not of the form host:port"],
    ["nodes://", "is not of the form host or host:port"],
    ["nodes://a,,b", "is not of the form host or host:port"],
    ["nodes://a:0", "is not of the form"],
    ["nodes://300.1.1.1", "is not of the form"],
    ["nodes://a b", "is not of the form"],
    ["file://relative", "must be absolute"],
    ["file:///a/../b", "must be absolute and without .."],
  ])("%s is refused, naming the field", (text, reason) => {
    expect(() => parseDiscovery(text)).toThrow(NetworkError);
    expect(() => parseDiscovery(text)).toThrow("invalid cluster.discovery: ");
    expect(() => parseDiscovery(text)).toThrow(reason);
  });

  it("name the same place or another", () => {
    const place = (text: string) => parseDiscovery(text);
    expect(samePlace(place("etcd://a:1,b:1/p"), place("etcd://b:1,a:1/p/"))).toBe(true);
    expect(samePlace(place("etcd://a:1/p"), place("consul://a:1/p"))).toBe(false);
    expect(samePlace(place("etcd://a:1/p"), place("etcd://a:1/q"))).toBe(false);
    expect(samePlace(place("nodes://a"), place("nodes://a"))).toBe(false);
  });

  it("are understood or refused, whatever the text", () => {
    const text = fc.oneof(
      fc.string(),
      fc
        .tuple(fc.constantFrom("consul://", "etcd://", "nodes://", "file://"), fc.string())
        .map((parts) => parts.join("")),
    );
    fc.assert(
      fc.property(text, (value) => {
        try {
          parseDiscovery(value);
        } catch (error) {
          expect(error).toBeInstanceOf(NetworkError);
        }
      }),
      { numRuns: runs(2_000) },
    );
  });
});

describe("addresses to join", () => {
  it("come back as serf takes them", () => {
    const text = (given: string) => joinText(tryParseJoinAddress(given)!, 7946);
    expect(["h", "h:1", "10.0.0.1", "2001:db8::1", "[2001:DB8::1]:5"].map(text)).toEqual([
      "h:7946",
      "h:1",
      "10.0.0.1:7946",
      "[2001:db8::1]:7946",
      "[2001:db8::1]:5",
    ]);
  });

  it("of a list: one a line, comments and bad lines left out", () => {
    const refused: number[] = [];
    const list = parseNodeList("# all\n10.0.0.1\r\n\n h2:99 # two\n-bad-\nh3", (line) => refused.push(line));
    expect(list).toEqual([{ host: "10.0.0.1" }, { host: "h2", port: 99 }, { host: "h3" }]);
    expect(refused).toEqual([5]);
    expect(parseNodeList("h\n".repeat(20_000), () => undefined)).toHaveLength(10_000);
  });
});

describe("a file of nodes", () => {
  it("is read again when it changes, keeps what it said while it is away, and is bounded", async () => {
    const directory = mkdtempSync(join(tmpdir(), "dnet-nodes-"));
    const path = join(directory, "nodes");
    const clock = new VirtualClock();
    const abort = new AbortController();
    const heard: string[] = [];
    const said: string[] = [];
    writeFileSync(path, "a\n");
    const following = followNodeFile(path, (list) => heard.push(list.map(({ host }) => host).join()), {
      log: (level, text) => said.push(`${level} ${text}`),
      signal: abort.signal,
      clock,
    });
    /** Lets the follower look until it has seen what a test waits for. */
    const look = async (until: () => boolean) => {
      for (const end = performance.now() + 10_000; !until(); ) {
        expect(performance.now()).toBeLessThan(end);
        clock.advance(1_000);
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    await look(() => heard.length === 1);
    writeFileSync(join(directory, "new"), "a\nb\n");
    renameSync(join(directory, "new"), path);
    await look(() => heard.length === 2);
    rmSync(path);
    await look(() => said.length === 1);
    writeFileSync(path, "x".repeat(1024 * 1024 + 1));
    await look(() => said.length === 2);
    writeFileSync(path, "c\n");
    await look(() => heard.length === 3);
    abort.abort();
    await following;
    rmSync(directory, { recursive: true });
    expect(heard).toEqual(["a", "a,b", "c"]);
    expect(said[0]).toMatch(/^warning discovery: ENOENT/);
    expect(said[1]).toMatch(/has more than 1048576 bytes; trying again$/);
  });
});
