import dns from "dns-packet";
import { describe, expect, it } from "vitest";
import { parseIp, reverseName } from "../net/ip.ts";
import { parsePrefix } from "../net/prefix.ts";
import { addressOfReverse, answerQuery, type Transport } from "./answer.ts";
import { NameTable } from "./name-table.ts";

const table = new NameTable();
const ips = (...texts: string[]) => texts.map((text) => parseIp(text));
table.set("n1", "e1", { names: ["k1", "buddy"], addresses: ips("172.19.0.2", "fd00:1::2") });
table.set("n1", "e2", { names: ["k2"], addresses: ips("172.19.0.3") });
for (let i = 0; i < 100; i++) {
  table.set("n1", `many${i}`, { names: [`m${i}`, "many"], addresses: ips(`172.19.1.${i}`) });
}
table.set("n1", "odd", { names: ["x".repeat(64)], addresses: ips("172.19.2.1") });
const view = table.view({
  networks: [{ id: "n1", name: "ba", subnets: [parsePrefix("172.19.0.0/16")] }],
  aliases: [],
  addresses: [],
});

interface Asked extends dns.Packet {
  readonly transport?: Transport;
}
const packet = (name: string, type: string, over: dns.Packet = {}): Buffer =>
  dns.encode({
    type: "query",
    id: 4711,
    flags: dns.RECURSION_DESIRED,
    questions: [{ type: type as dns.RecordType, name }],
    ...over,
  });
const ask = (name: string, type: string, { transport = "udp", ...over }: Asked = {}) => {
  const answer = answerQuery(packet(name, type, over), view, { transport });
  if (answer.kind !== "reply") return answer.kind;
  const reply = dns.decode(answer.reply) as dns.DecodedPacket & { rcode: string };
  expect(reply).toMatchObject({ id: over.id ?? 4711, type: "response", flag_ra: true, flag_aa: false });
  expect(dns.encodingLength(reply)).toBeGreaterThan(0);
  return {
    ...reply,
    size: answer.reply.length,
    values: reply.answers?.map((record) => "data" in record && record.data),
  };
};
const opt = (udpPayloadSize: number, ednsVersion = 0) => ({
  additionals: [
    {
      type: "OPT" as const,
      name: "." as const,
      udpPayloadSize,
      extendedRcode: 0,
      ednsVersion,
      flags: 0,
      flag_do: false,
      options: [],
    },
  ],
});

describe("answers from the table", () => {
  it("are the addresses of the family that was asked for", () => {
    const reply = ask("K1", "A");
    expect(reply).toMatchObject({ rcode: "NOERROR", flag_rd: true, values: ["172.19.0.2"], additionals: [] });
    expect(reply).toMatchObject({ questions: [{ name: "K1", type: "A" }], answers: [{ name: "K1", ttl: 0 }] });
    expect(ask("k1.ba", "AAAA", { flags: 0 })).toMatchObject({ flag_rd: false, values: ["fd00:1::2"] });
  });

  it("46: carry the TTL that is set", () => {
    const answer = answerQuery(packet("k2", "A"), view, { transport: "udp", ttl: 600 });
    expect(answer.kind === "reply" && dns.decode(answer.reply).answers).toMatchObject([{ ttl: 600 }]);
  });

  it("44, moby 45553: are empty for other types of an own name, and NXDOMAIN below an own zone", () => {
    for (const type of ["AAAA", "MX", "TXT", "SRV", "PTR", "ANY", "AXFR"])
      expect(ask("k2", type), type).toMatchObject({ rcode: "NOERROR", answers: [] });
    for (const name of ["nosuch.ba", "_http._tcp.k1.ba"])
      expect(ask(name, "A"), name).toMatchObject({ rcode: "NXDOMAIN", answers: [] });
  });

  it("are left to others for names and addresses that are not ours", () => {
    for (const name of ["nosuch", "ba", ".", "www.example.com", "k1.bb"]) expect(ask(name, "A"), name).toBe("forward");
    for (const name of [reverseName(parseIp("8.8.8.8")), "19.172.in-addr.arpa", "x.ip6.arpa"])
      expect(ask(name, "PTR"), name).toBe("forward");
    expect(ask("k1", "A", { questions: [{ type: "A", name: "k1", class: "CH" }] })).toBe("forward");
    const dotted = Buffer.from(`000001000001000000000000056b312e6261000001${"0001"}`, "hex");
    expect(answerQuery(dotted, view, { transport: "udp" }).kind).toBe("forward");
  });

  it("name addresses", () => {
    for (const address of ["172.19.0.2", "fd00:1::2"])
      expect(ask(reverseName(parseIp(address)), "PTR")).toMatchObject({ rcode: "NOERROR", values: ["k1.ba"] });
    expect(ask(reverseName(parseIp("172.19.9.9")), "PTR")).toMatchObject({ rcode: "NXDOMAIN" });
    expect(ask(reverseName(parseIp("172.19.0.2")), "A")).toMatchObject({ rcode: "NOERROR", answers: [] });
    expect(ask(reverseName(parseIp("172.19.2.1")), "PTR")).toMatchObject({ rcode: "NOERROR", answers: [] });
  });

  it("fit the client's size, else say so; over TCP they are whole", () => {
    const plain = ask("many", "A");
    expect(plain).toMatchObject({ flag_tc: true });
    expect(plain).toHaveProperty("size", 12 + 10 + 30 * 16);
    expect(ask("many", "A", opt(4096))).toMatchObject({ flag_tc: true, additionals: [{ udpPayloadSize: 1232 }] });
    expect(ask("many", "A", { transport: "tcp" })).toMatchObject({ flag_tc: false, answers: { length: 100 } });
  });

  it("echo EDNS, and refuse versions that nobody has defined", () => {
    expect(ask("k1", "A", opt(1400))).toMatchObject({
      values: ["172.19.0.2"],
      additionals: [{ type: "OPT", udpPayloadSize: 1232, extendedRcode: 0 }],
    });
    expect(ask("k1", "A", opt(1400, 1))).toMatchObject({ answers: [], additionals: [{ extendedRcode: 1 }] });
  });
});

describe("packets that are no query", () => {
  const answer = (bytes: Buffer) => {
    const result = answerQuery(bytes, view, { transport: "udp" });
    return result.kind === "reply" ? `${result.reply.length}:${result.reply[3]! & 15}` : result.kind;
  };
  const good = packet("k1", "A");
  const changed = (offset: number, value: number) => {
    const copy = Buffer.from(good);
    copy[offset] = value;
    return copy;
  };

  it("get FORMERR, NOTIMP or nothing", () => {
    expect(answer(Buffer.alloc(0))).toBe("drop");
    expect(answer(good.subarray(0, 11))).toBe("drop");
    expect(answer(changed(2, 0x81))).toBe("drop");
    expect(answer(changed(2, 0x29))).toBe("12:4");
    for (const [offset, value] of [
      [5, 0],
      [5, 2],
      [7, 1],
      [10, 255],
      [12, 0xc0],
      [12, 64],
      [12, 63],
    ] as const)
      expect(answer(changed(offset, value)), `${offset}=${value}`).toBe("12:1");
    for (let length = 12; length < good.length; length++)
      expect(answer(good.subarray(0, length)), `${length} bytes`).toBe("12:1");
    const long = Buffer.concat([good.subarray(0, 12), Buffer.alloc(256, Buffer.of(1, 0x61)), Buffer.of(0, 0, 1, 0, 1)]);
    expect(answer(long)).toBe("12:1");
  });
});

it("reads back every reverse name", () => {
  for (const text of ["0.0.0.0", "172.19.0.2", "255.255.255.255", "::", "2001:db8::1", "fd00::ffff"])
    expect(addressOfReverse(reverseName(parseIp(text)))).toBe(text);
  for (const name of ["1.in-addr.arpa", "01.2.3.4.in-addr.arpa", "a.b.c.d.in-addr.arpa", "in-addr.arpa", "0.ip6.arpa"])
    expect(addressOfReverse(name)).toBeUndefined();
});
