import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { connect } from "node:net";
import dns from "dns-packet";
import { describe, expect, it } from "vitest";
import { Resolver } from "./resolver.ts";
import {
  addresses,
  answering,
  ask,
  cleanUpAfterEach,
  dial,
  local,
  loopback,
  open,
  pass,
  query,
  stopClocks,
  turns,
  udpSocket,
  upstream,
  upstreamReply,
  view,
} from "./resolver-fixture.ts";

cleanUpAfterEach();

describe("a resolver over UDP", () => {
  it("answers its names without asking anyone", async () => {
    const other = await upstream(answering("10.1.1.1"));
    const resolver = await open({ upstreams: () => [other.at], ttl: 5 });
    expect(await ask(resolver, query("web.front"))).toMatchObject({
      id: 99,
      answers: [{ ttl: 5, data: "172.19.0.2" }],
    });
    expect(await ask(resolver, query("x.front"))).toMatchObject({ rcode: "NXDOMAIN" });
    expect(other.seen).toEqual([]);
  });

  it("says that nothing else exists where there are no upstreams to ask", async () => {
    expect(await ask(await open(), query("www.example.com"))).toMatchObject({ rcode: "NXDOMAIN", id: 99 });
    expect(await ask(await open({ upstreams: () => [] }), query("x"))).toMatchObject({ rcode: "SERVFAIL" });
  });

  it("forwards the bytes as they are, under another id, from ports of its own", async () => {
    const other = await upstream(answering("10.1.1.1", { flags: dns.TRUNCATED_RESPONSE }));
    const resolver = await open({ upstreams: () => [other.at] });
    const packets = Array.from({ length: 20 }, () => Buffer.concat([query("Example.COM"), Buffer.from("tail")]));
    const replies = await Promise.all(packets.map((packet) => ask(resolver, packet)));
    for (const reply of replies)
      expect(reply).toMatchObject({ id: 99, flag_tc: true, answers: [{ data: "10.1.1.1" }] });
    for (const seen of other.seen) expect(seen.subarray(2)).toEqual(packets[0]!.subarray(2));
    expect(new Set(other.seen.map((seen) => seen.readUInt16BE(0))).size).toBeGreaterThan(15);
  });

  it("45, moby 22185: takes no reply with another id, another question, no QR bit or from another address", async () => {
    const forger = await udpSocket();
    const other = await upstream((packet, from, socket) => {
      const forged = upstreamReply(packet, "6.6.6.6");
      forger.send(forged, from.port, from.address);
      const say = (reply: Buffer) => socket.send(reply, from.port, from.address);
      say(Buffer.concat([Buffer.of(forged[0]! ^ 1), forged.subarray(1)]));
      say(upstreamReply(packet, "6.6.6.6", { questions: [{ type: "A", name: "example.org" }] }));
      say(upstreamReply(packet, "6.6.6.6", { questions: [] }));
      say(Buffer.concat([forged.subarray(0, 2), Buffer.of(forged[2]! & 0x7f), forged.subarray(3)]));
      say(forged.subarray(0, 7));
      setTimeout(() => say(upstreamReply(packet, "10.1.1.1")), 30);
    });
    const resolver = await open({ upstreams: () => [other.at] });
    expect(addresses(await ask(resolver, query("example.com")))).toEqual(["10.1.1.1"]);
  });

  it("goes on to the next upstream after silence, a refusal or a failure", async () => {
    const silent = await upstream(() => {});
    const failing = await upstream(answering("10.9.9.9", { flags: 2, answers: [] }));
    const good = await upstream(answering("10.2.2.2"));
    const gone = createSocket("udp4");
    await new Promise<void>((resolve) => gone.bind(0, "127.0.0.1", resolve));
    const refused = { address: loopback, port: gone.address().port };
    await new Promise<void>((resolve) => gone.close(() => resolve()));
    stopClocks();
    const at = [refused, failing.at, good.at];
    const resolver = await open({ upstreams: () => at });
    // The clock stands: neither a refusal nor a failure is waited out.
    expect(addresses(await ask(resolver, query("example.com")))).toEqual(["10.2.2.2"]);
    at.splice(0, 3, silent.at, good.at);
    expect(addresses(await later(ask(resolver, query("example.com"))))).toEqual(["10.2.2.2"]);
    at.splice(0, 2, failing.at);
    expect(await ask(resolver, query("example.com"))).toMatchObject({ rcode: "SERVFAIL" });
    at.splice(0, 1, silent.at, refused);
    expect(await later(ask(resolver, query("example.com")))).toMatchObject({ rcode: "SERVFAIL", id: 99 });
  });

  it("45: fails at once what is beyond the bound, and is free again afterwards", async () => {
    const silent = await upstream(() => {});
    stopClocks();
    const resolver = await open({ maxOutstanding: 2, upstreams: () => [silent.at] });
    const waiting = [ask(resolver, query("a.example")), ask(resolver, query("b.example"))];
    while (silent.seen.length < 2) await turns(1);
    expect(await ask(resolver, query("c.example"))).toMatchObject({ rcode: "SERVFAIL" });
    expect(silent.seen).toHaveLength(2);
    await later(Promise.all(waiting));
    const again = ask(resolver, query("d.example"));
    while (silent.seen.length < 3) await turns(1);
    await later(again);
  });

  it("answers only those whom the sandbox's addresses belong to", async () => {
    const resolver = await open({ view: Object.assign(Object.create(view), { isSource: () => false }) });
    const client = await udpSocket();
    client.send(query("web"), resolver.udpPort, "127.0.0.1");
    await expect(once(client, "message", { signal: AbortSignal.timeout(100) })).rejects.toThrow();
    await dial(resolver).closed;
  });
});

/** What needs time to pass, with the clocks stopped. */
const later = async <T>(work: Promise<T>): Promise<T> => {
  let done = false;
  const end = () => {
    done = true;
  };
  work.then(end, end);
  await pass(() => done);
  return work;
};

const count = () => readdirSync("/proc/self/fd").length;

it("closes everything it opened, also while queries are under way", async () => {
  const silent = await upstream(() => {});
  const before = count();
  for (let round = 0; round < 5; round++) {
    const resolver = await Resolver.open({ udp: local, tcp: local, view, upstreams: () => [silent.at] });
    const seen = silent.seen.length;
    const client = createSocket("udp4");
    for (let i = 0; i < 10; i++) client.send(query("www.example.com"), resolver.udpPort, "127.0.0.1");
    while (silent.seen.length < seen + 10) await turns(1);
    const stream = connect(resolver.tcpPort, "127.0.0.1").on("error", () => {});
    await once(stream, "connect");
    await Promise.all([resolver.close(), resolver.close(), once(stream, "close")]);
    await new Promise<void>((resolve) => client.close(() => resolve()));
  }
  await expect.poll(count, { timeout: 4000 }).toBeLessThanOrEqual(before);
});

it("leaves nothing open where a socket cannot be bound", async () => {
  const taken = await udpSocket();
  const udp = { address: "127.0.0.1", port: taken.address().port };
  const resolver = await open();
  const before = count();
  await expect(Resolver.open({ udp, tcp: local, view, upstreams: () => undefined })).rejects.toThrow("EADDRINUSE");
  const tcp = { address: "127.0.0.1", port: resolver.tcpPort };
  await expect(Resolver.open({ udp: local, tcp, view, upstreams: () => undefined })).rejects.toThrow("EADDRINUSE");
  await expect.poll(count, { timeout: 4000 }).toBeLessThanOrEqual(before);
});
