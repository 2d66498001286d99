import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect } from "node:net";
import dns from "dns-packet";
import fc from "fast-check";
import { answerQuery } from "../../src/dns/answer.ts";
import { FrameReader, frame } from "../../src/dns/frames.ts";
import { NameTable } from "../../src/dns/name-table.ts";
import { Resolver } from "../../src/dns/resolver.ts";
import { parseIp } from "../../src/net/ip.ts";
import { parsePrefix } from "../../src/net/prefix.ts";
import { fuzzTarget, nearly } from "./target.ts";

const table = new NameTable();
table.set("n1", "e1", { names: ["web", "alias"], addresses: [parseIp("172.19.0.2"), parseIp("fd00:1::2")] });
for (let n = 0; n < 100; n++) table.set("n1", `m${n}`, { names: ["many"], addresses: [parseIp(`172.19.1.${n}`)] });
const view = table.view({
  networks: [{ id: "n1", name: "front", subnets: [parsePrefix("172.19.0.0/16")] }],
  aliases: [],
  addresses: [],
});

const query = (name: string, type: string, additionals: dns.Packet["additionals"] = []) =>
  dns.encode({
    type: "query",
    id: 4711,
    flags: dns.RECURSION_DESIRED,
    questions: [{ type: type as dns.RecordType, name }],
    additionals,
  });
const edns = [
  {
    type: "OPT" as const,
    name: "." as const,
    udpPayloadSize: 1232,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
  },
];
const queries = [
  query("web", "A"),
  query("many", "A"),
  query("many", "AAAA", edns),
  query("web.front", "MX"),
  query("2.0.19.172.in-addr.arpa", "PTR"),
  query("example.org", "A", edns),
  dns.encode({ type: "response", id: 7, questions: [{ type: "A", name: "web" }] }),
];
const good = query("web", "A");

export const dnsPackets = fuzzTarget("dns-packets", nearly(queries), () => ({
  check(bytes) {
    for (const transport of ["udp", "tcp"] as const) {
      const answer = answerQuery(bytes, view, { transport });
      if (answer.kind !== "reply") continue;
      if (dns.decode(answer.reply).id !== bytes.readUInt16BE(0)) throw new Error("a reply under another id");
      if (answer.reply.length > (transport === "udp" ? 1232 : 65_535)) throw new Error("a reply that is too long");
    }
  },
}));

/** A resolver that asks nobody else. */
const openResolver = () =>
  Resolver.open({
    udp: { address: "127.0.0.1", port: 0 },
    tcp: { address: "127.0.0.1", port: 0 },
    view,
    upstreams: () => undefined,
    onError: (error) => {
      throw error;
    },
  });

/** Any datagrams, then a question: it is answered. */
export const dnsUdp = fuzzTarget(
  "dns-udp",
  fc.array(nearly(queries), { minLength: 1, maxLength: 4 }),
  async () => {
    const resolver = await openResolver();
    const client = createSocket("udp4");
    client.bind(0, "127.0.0.1");
    await once(client, "listening");
    let asked = 0;
    return {
      async check(datagrams) {
        for (const bytes of datagrams) client.send(bytes, resolver.udpPort, "127.0.0.1");
        // Answers to the others come first, or carry another id.
        const id = 1 + (asked++ % 60_000);
        const question = Buffer.from(good);
        question.writeUInt16BE(id);
        const answered = new Promise<void>((resolve) => {
          const hear = (reply: Buffer) => {
            if (reply.length < 2 || reply.readUInt16BE() !== id || !reply.includes(Buffer.from([172, 19, 0, 2])))
              return;
            client.off("message", hear);
            resolve();
          };
          client.on("message", hear);
        });
        client.send(question, resolver.udpPort, "127.0.0.1");
        await answered;
      },
      async close() {
        client.close();
        await resolver.close();
      },
    };
  },
  200,
);

const pieces = fc.tuple(
  fc.array(fc.oneof(nearly(queries).map(frame), nearly(queries), fc.constant(frame(good))), { maxLength: 5 }),
  fc.array(fc.integer({ min: 1, max: 80 }), { minLength: 1, maxLength: 4 }),
);
const cut = (bytes: Buffer, sizes: readonly number[]): readonly Buffer[] => {
  const parts: Buffer[] = [];
  for (let at = 0, n = 0; at < bytes.length; n++) {
    const size = sizes[n % sizes.length] ?? 1;
    parts.push(bytes.subarray(at, at + size));
    at += size;
  }
  return parts;
};

/** Messages of a stream are the same however it is cut, and cost no more than they are long (CVE-2026-35406). */
export const dnsFrames = fuzzTarget("dns-frames", pieces, () => ({
  check([chunks, sizes]) {
    const bytes = Buffer.concat(chunks);
    const read = (parts: readonly Buffer[]) => {
      const reader = new FrameReader();
      const found: string[] = [];
      for (const part of parts) {
        reader.feed(part);
        for (let next = reader.next(); next; next = reader.next()) found.push(next.toString("hex"));
      }
      return found;
    };
    const expected: string[] = [];
    for (let at = 0; at + 2 <= bytes.length; ) {
      const end = at + 2 + bytes.readUInt16BE(at);
      if (end > bytes.length) break;
      expected.push(bytes.toString("hex", at + 2, end));
      at = end;
    }
    if (read(cut(bytes, sizes)).join() !== expected.join()) throw new Error("other messages than were sent");
  },
}));

/** Whatever comes over one connection, the next one is served (CVE-2024-8418), and the first one ends. */
export const dnsTcp = fuzzTarget(
  "dns-tcp",
  pieces,
  async () => {
    const resolver = await openResolver();
    const dial = () => {
      const socket = connect(resolver.tcpPort, "127.0.0.1");
      socket.on("error", () => undefined);
      return socket;
    };
    return {
      async check([chunks, sizes]) {
        const first = dial();
        const ended = once(first, "close");
        first.resume();
        for (const part of cut(Buffer.concat(chunks), sizes)) first.write(part);
        const second = dial();
        second.write(frame(good));
        const [reply] = (await once(second, "data")) as [Buffer];
        if (!reply.includes(Buffer.from([172, 19, 0, 2]))) throw new Error("the second connection is not answered");
        second.destroy();
        first.end();
        // What is half a message is waited for: the client's end ends that.
        first.destroySoon();
        await ended;
      },
      close: () => resolver.close(),
    };
  },
  50,
);
