import { ipToBytes, parseIp } from "../../src/net/ip.ts";
import { macToBytes, parseMac } from "../../src/net/mac.ts";

/** Frames for attacks, built by hand (RFC 791, 768, 826, 4861). */

const ip = (text: string): Buffer => ipToBytes(parseIp(text));
const mac = (text: string): Buffer =>
  text === "ff:ff:ff:ff:ff:ff" ? Buffer.alloc(6, 255) : macToBytes(parseMac(text));
/** Where IPv6 multicast goes on Ethernet (RFC 2464 7). */
const multicastMac = (address: string): Buffer => Buffer.concat([Buffer.from("3333", "hex"), ip(address).subarray(12)]);

export const ethernet = (destination: string, source: string, type: number, payload: Buffer): Buffer =>
  Buffer.concat([
    destination.includes("::") ? multicastMac(destination) : mac(destination),
    mac(source),
    Buffer.from([type >> 8, type & 255]),
    payload,
  ]);

const sum = (bytes: Buffer): number => {
  let total = 0;
  for (let n = 0; n < bytes.length; n += 2) total += ((bytes[n] ?? 0) << 8) | (bytes[n + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >> 16);
  return ~total & 0xffff;
};

const u16 = (...values: readonly number[]): Buffer => {
  const bytes = Buffer.alloc(values.length * 2);
  for (const [n, value] of values.entries()) bytes.writeUInt16BE(value, n * 2);
  return bytes;
};

/** A UDP datagram in an IPv4 or IPv6 packet, by the family of its addresses. */
export const udp = (source: string, destination: string, port: number, text: string): Buffer => {
  const payload = Buffer.from(text);
  const length = 8 + payload.length;
  const [from, to] = [ip(source), ip(destination)];
  const datagram = Buffer.concat([u16(40_000, port, length, 0), payload]);
  datagram.writeUInt16BE(sum(Buffer.concat([from, to, u16(0, 17, 0, length), datagram])), 6);
  if (from.length === 16)
    return Buffer.concat([Buffer.from("60000000", "hex"), u16(length), Buffer.from([17, 64]), from, to, datagram]);
  const header = Buffer.concat([u16(0x4500, 20 + length, 0x1234, 0, 0x4011, 0), from, to]);
  header.writeUInt16BE(sum(header), 10);
  return Buffer.concat([header, datagram]);
};

/** CRC32c of SCTP (RFC 9260 appendix A), as it stands in the packet. */
const crc32c = (bytes: Buffer): number => {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
};

/** The first packet of an SCTP association, an INIT chunk (RFC 9260 3.3.2), over IPv4. */
export const sctpInit = (source: string, destination: string, port: number): Buffer => {
  const chunk = Buffer.concat([Buffer.from("01000014", "hex"), Buffer.from("11223344000100000001000100000001", "hex")]);
  const packet = Buffer.concat([u16(40_000, port), Buffer.alloc(8), chunk]);
  packet.writeUInt32LE(crc32c(packet), 8);
  const header = Buffer.concat([u16(0x4500, 20 + packet.length, 0x1234, 0, 0x4084, 0), ip(source), ip(destination)]);
  header.writeUInt16BE(sum(header), 10);
  return Buffer.concat([header, packet]);
};

const icmpv6 = (source: string, destination: string, message: Buffer): Buffer => {
  const [from, to] = [ip(source), ip(destination)];
  message.writeUInt16BE(sum(Buffer.concat([from, to, u16(0, message.length, 0, 58), message])), 2);
  return Buffer.concat([
    Buffer.from("60000000", "hex"),
    u16(message.length),
    Buffer.from([58, 255]),
    from,
    to,
    message,
  ]);
};

/** A router advertisement that offers a prefix (/64) for addresses and the sender as default router. */
export const routerAdvertisement = (source: string, prefix: string): Buffer =>
  icmpv6(
    source,
    "ff02::1",
    Buffer.concat([
      Buffer.from("8600000040000708", "hex"),
      Buffer.alloc(8),
      Buffer.from("030440c000015180000038400000000000", "hex").subarray(0, 16),
      ip(prefix),
    ]),
  );

/** An ARP reply nobody asked for: `address` is at `hardware`. */
export const arpReply = (hardware: string, address: string): Buffer =>
  Buffer.concat([
    Buffer.from("0001080006040002", "hex"),
    mac(hardware),
    ip(address),
    mac("ff:ff:ff:ff:ff:ff"),
    ip(address),
  ]);

/** A neighbour advertisement nobody asked for (override flag set): `address` is at `hardware`. */
export const neighbourAdvertisement = (hardware: string, address: string, source = address): Buffer =>
  icmpv6(
    source,
    "ff02::1",
    Buffer.concat([Buffer.from("8800000020000000", "hex"), ip(address), Buffer.from("0201", "hex"), mac(hardware)]),
  );
