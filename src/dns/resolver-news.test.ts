import dns from "dns-packet";
import { describe, expect, it, vi } from "vitest";
import { parseIp, reverseName } from "../net/ip.ts";
import { parsePrefix } from "../net/prefix.ts";
import { NameTable } from "./name-table.ts";
import {
  addresses,
  answering,
  ask,
  cleanUpAfterEach,
  open,
  query,
  turns,
  udpSocket,
  upstream,
} from "./resolver-fixture.ts";

cleanUpAfterEach();

/** A sandbox in a network that spans hosts and in one that does not, and what comes on another host while one waits for news. */
const prepare = async (more: Parameters<typeof open>[0] = {}) => {
  const table = new NameTable();
  table.set("n1", "e1", { names: ["web"], addresses: [parseIp("10.1.0.2")] });
  const view = table.view({
    networks: [
      { id: "n1", name: "wide", subnets: [parsePrefix("10.1.0.0/16")], spansHosts: true },
      { id: "n2", name: "front", subnets: [parsePrefix("172.19.0.0/16")], spansHosts: false },
    ],
    aliases: [],
    addresses: [],
  });
  const news = vi.fn(async () => table.set("n1", "e2", { names: ["db"], addresses: [parseIp("10.1.0.3")] }));
  const resolver = await open({ view, news, ...more });
  return { resolver, news, table };
};

describe("a name that is not known", () => {
  it.each([["db"], ["DB.wide"]])("is answered when it has come from another host meanwhile: %s", async (name) => {
    const { resolver, news } = await prepare();
    expect(addresses(await ask(resolver, query(name)))).toEqual(["10.1.0.3"]);
    expect(news).toHaveBeenCalledTimes(1);
    expect(addresses(await ask(resolver, query(name)))).toEqual(["10.1.0.3"]);
    expect(news).toHaveBeenCalledTimes(1);
  });

  it("the same of an address", async () => {
    const { resolver } = await prepare();
    const packet = dns.encode({ type: "query", questions: [{ type: "PTR", name: reverseName(parseIp("10.1.0.3")) }] });
    expect(addresses(await ask(resolver, packet))).toEqual(["db.wide"]);
  });

  it("does not exist, or is asked for elsewhere, when it has not", async () => {
    const other = await upstream(answering("10.9.9.9"));
    const { resolver, news } = await prepare({ upstreams: () => [other.at] });
    expect(await ask(resolver, query("x.wide"))).toMatchObject({ rcode: "NXDOMAIN" });
    expect(addresses(await ask(resolver, query("x")))).toEqual(["10.9.9.9"]);
    expect(news).toHaveBeenCalledTimes(2);
    expect(other.seen).toHaveLength(1);
  });

  it("is not waited for where no other host can have given it, nor where there is nobody to ask", async () => {
    const { resolver, news } = await prepare();
    for (const name of ["www.example.com", "x.front", "web", "."]) await ask(resolver, query(name));
    await ask(
      resolver,
      dns.encode({ type: "query", questions: [{ type: "PTR", name: reverseName(parseIp("172.19.0.9")) }] }),
    );
    expect(news).not.toHaveBeenCalled();
    const alone = await prepare({ news: () => undefined });
    expect(await ask(alone.resolver, query("db"))).toMatchObject({ rcode: "NXDOMAIN" });
  });

  it("is waited for by so many queries at most: the others hear what is known", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const news = vi.fn(() => promise);
    const { resolver } = await prepare({ news });
    const client = await udpSocket();
    let replies = 0;
    client.on("message", () => replies++);
    for (let n = 0; n < 300; n++) {
      client.send(query("x.wide", n), resolver.udpPort, "127.0.0.1");
      if (n % 20 === 0) await turns();
    }
    await vi.waitFor(() => expect(replies).toBe(44), { timeout: 4_000 });
    expect(news).toHaveBeenCalledTimes(256);
    resolve();
    await vi.waitFor(() => expect(replies).toBe(300), { timeout: 4_000 });
  });
});
