import { execFileSync } from "node:child_process";
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { redirectScript } from "../linux/redirect.ts";
import { parseIp } from "../net/ip.ts";
import { hostsFile, parseResolvConf, resolvConf, writeInPlace } from "./files.ts";
import { resolverRedirect } from "./redirect.ts";
import { HostUpstreams, upstreamsOf } from "./upstreams.ts";

const dir = mkdtempSync(join(tmpdir(), "dns-files-"));
afterAll(() => rmSync(dir, { recursive: true }));
const standard = `127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
`;

describe("the files of a sandbox", () => {
  it("hosts: the standard names, extra hosts, own addresses", () => {
    const content = {
      hostName: "web",
      domainName: "example.com",
      addresses: [parseIp("172.19.0.2"), parseIp("fd00::2")],
      names: ["web", "www", "two words", "x\n6.6.6.6 evil"],
      extraHosts: [
        { name: "db", address: parseIp("10.9.9.9") },
        { name: "a\nb", address: parseIp("10.9.9.9") },
      ],
    };
    const own = "web.example.com web www\n";
    expect(hostsFile(content)).toBe(`${standard}10.9.9.9\tdb\n172.19.0.2\t${own}fd00::2\t${own}`);
    expect(hostsFile({ hostName: "", addresses: [parseIp("10.0.0.1")], extraHosts: [] })).toBe(standard);
    expect(hostsFile({ hostName: "c1", addresses: [parseIp("10.0.0.1")], extraHosts: [] })).toBe(
      `${standard}10.0.0.1\tc1\n`,
    );
  });

  it("resolv.conf: the resolver, search domains, options", () => {
    expect(resolvConf()).toBe("nameserver 127.0.0.11\noptions ndots:0\n");
    expect(resolvConf({ search: ["a", "b"], options: ["timeout:1"] })).toBe(
      "search a b\nnameserver 127.0.0.11\noptions ndots:0 timeout:1\n",
    );
    expect(resolvConf({ search: ["x y"], options: ["ndots:2"] })).toBe("nameserver 127.0.0.11\noptions ndots:2\n");
  });

  it("resolv.conf is read tolerantly and written back the same", () => {
    const text =
      "# c\n; c\ndomain old\nnameserver 10.0.0.1 # x\nnameserver bad\nnameserver\nsearch a b\n\tnameserver 2001:DB8::1\r\noptions x\nsortlist 1\noptions y";
    expect(parseResolvConf(text)).toEqual({
      nameservers: ["10.0.0.1", "2001:db8::1"],
      search: ["a", "b"],
      options: ["x", "y"],
    });
    expect(parseResolvConf(`${"#".repeat(65_536)}\nnameserver 1.1.1.1`).nameservers).toEqual([]);
    fc.assert(fc.property(fc.string(), (any) => void parseResolvConf(any)));
    const words = fc.array(fc.stringMatching(/^[a-z.]{1,9}$/), { maxLength: 4 });
    fc.assert(
      fc.property(words, words, (search, options) => {
        const read = parseResolvConf(resolvConf({ search, options }));
        expect(read).toEqual({ nameservers: ["127.0.0.11"], search, options: ["ndots:0", ...options] });
      }),
    );
  });

  it("are written in place: same inode, mode 0644, nothing left of longer text, no link followed", async () => {
    const path = join(dir, "hosts");
    writeFileSync(path, "long ".repeat(1000), { mode: 0o600 });
    const { ino } = statSync(path);
    await writeInPlace(path, "short\n");
    expect(readFileSync(path, "utf8")).toBe("short\n");
    expect(statSync(path)).toMatchObject({ ino, mode: 0o100644 });
    await writeInPlace(join(dir, "fresh"), "x");
    expect(statSync(join(dir, "fresh")).mode).toBe(0o100644);
    symlinkSync(path, join(dir, "link"));
    await expect(writeInPlace(join(dir, "link"), "x")).rejects.toMatchObject({ code: "ELOOP" });
  });

  it("are never a pipe or a device, which could wait for ever", async () => {
    const pipe = join(dir, "pipe");
    execFileSync("mkfifo", [pipe]);
    await expect(writeInPlace(pipe, "x")).rejects.toMatchObject({ code: "ENXIO" });
    const reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
    await expect(writeInPlace(pipe, "x")).rejects.toMatchObject({ code: "not-a-file" });
    closeSync(reader);
    await expect(writeInPlace("/dev/null", "x")).rejects.toMatchObject({ code: "not-a-file" });
  });
});

describe("the host's resolvers", () => {
  it("leave out our own and keep the stub on loopback", () => {
    expect(upstreamsOf("nameserver 127.0.0.11\nnameserver 10.0.0.1")).toEqual([{ address: "10.0.0.1" }]);
    expect(upstreamsOf("nameserver 127.0.0.53\n")).toEqual([{ address: "127.0.0.53" }]);
  });

  it("are read again when the file changed, once per second at most", () => {
    const path = join(dir, "resolv.conf");
    let now = 0;
    const host = new HostUpstreams({ path, now: () => now });
    expect(host.current()).toEqual([]);
    writeFileSync(path, "nameserver 10.0.0.1\n");
    expect(host.current()).toEqual([]);
    now = 1000;
    expect(host.current()).toEqual([{ address: "10.0.0.1" }]);
    writeFileSync(path, "nameserver 10.0.0.2\n");
    utimesSync(path, 1, 1);
    now = 1999;
    expect(host.current()).toEqual([{ address: "10.0.0.1" }]);
    now = 2000;
    expect(host.current()).toEqual([{ address: "10.0.0.2" }]);
    rmSync(path);
    now = 3000;
    expect(host.current()).toEqual([{ address: "10.0.0.2" }]);
  });
});

it("the redirect takes ports and nothing else", () => {
  const script = redirectScript(resolverRedirect(40_001, 40_002));
  expect(script).toContain("ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:40001");
  expect(script).toContain("ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:40002");
  for (const port of [0, -1, 1.5, 65_536, Number.NaN]) expect(() => resolverRedirect(port, 1)).toThrow(RangeError);
});
