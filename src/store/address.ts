import { isIP, isIPv6 } from "node:net";
import { badRequest, shown } from "../errors.ts";

/** Where a store is: one of its servers, and the keys below which everything of ours lies. */
export interface StoreAddress {
  /** `host:port`, an IPv6 host in brackets. */
  readonly server: string;
  /** Path without slashes at its ends; empty where the address names none. */
  readonly prefix: string;
}

const label = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/i;
/** Segments go into URL paths as they are; a dot or two would be resolved there. */
const segment = /^(?!\.{1,2}$)[A-Za-z0-9_.-]{1,128}$/;
const maxPrefix = 256;

/**
 * Reads `host:port[/prefix]`, as in `172.17.0.1:8500/custom_prefix`.
 * @throws NetworkError `invalid-store-address` (bad request)
 */
export const parseStoreAddress = (text: string): StoreAddress => {
  const fail = (reason: string) =>
    badRequest("invalid-store-address", `invalid store address: ${shown(text)} ${reason}`, {
      hint: 'an address is host:port or host:port/prefix, as in "172.17.0.1:8500/custom_prefix"',
    });
  const [, server = "", path] = /^([^/]*)(?:\/(.*))?$/s.exec(text) ?? [];
  const [, host = "", port = ""] = /^(.*):(\d{1,5})$/s.exec(server) ?? [];
  if (host === "") throw fail("names no host and port");
  if (Number(port) < 1 || Number(port) > 65_535) throw fail("has no port between 1 and 65535");
  if (!isHost(host)) throw fail("names no host");
  const prefix = (path ?? "").replace(/^\/+|\/+$/g, "");
  if (prefix !== "" && !prefix.split("/").every((part) => segment.test(part))) {
    throw fail('has a prefix that is not made of letters, digits, "_", "." and "-"');
  }
  if (prefix.length > maxPrefix) throw fail(`has a prefix longer than ${maxPrefix} characters`);
  return { server: `${host.toLowerCase()}:${Number(port)}`, prefix };
};

const isHost = (host: string): boolean => {
  if (host.startsWith("[") && host.endsWith("]")) return isIPv6(host.slice(1, -1)) && !host.includes("%");
  if (isIP(host) === 4) return true;
  if (host.length > 253) return false;
  const labels = host.split(".");
  // A URL takes a name that ends in a number for an address, and reads it in ways of its own.
  return labels.every((part) => label.test(part)) && !/^(\d+|0x[0-9a-f]*)$/i.test(labels.at(-1) ?? "");
};
