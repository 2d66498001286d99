import { badRequest, shown } from "../errors.ts";
import { familyOf, type Ip, ipToBytes } from "./ip.ts";

declare const brand: unique symbol;
/** An Ethernet address in lower case with colons: `02:42:0a:00:00:02`. */
export type Mac = string & { readonly [brand]: "mac" };

/** @throws NetworkError `invalid-mac` (bad request): not six octets, or a multicast or zero address */
export const parseMac = (text: string, field = "MAC address"): Mac => {
  const mac = text.toLowerCase().replaceAll("-", ":");
  const usable = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(mac) && mac !== "00:00:00:00:00:00";
  if (!usable || (Number.parseInt(mac.slice(0, 2), 16) & 1) === 1) {
    throw badRequest("invalid-mac", `invalid ${field}: ${shown(text)} is not a unicast Ethernet address`);
  }
  return mac as Mac;
};

export const macToBytes = (mac: Mac): Buffer => Buffer.from(mac.replaceAll(":", ""), "hex");

export const macFromBytes = (bytes: Iterable<number>): Mac =>
  [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":") as Mac;

/** The MAC of an endpoint: `02:42:` and its IPv4 address (the original's rule), or the last four octets of an IPv6 one. */
export const macFromIp = (ip: Ip): Mac => {
  const bytes = ipToBytes(ip);
  return macFromBytes([0x02, 0x42, ...(familyOf(ip) === 4 ? bytes : bytes.subarray(12))]);
};
