import { badRequest, type NetworkError, shown } from "../errors.ts";
import { type JoinAddress, tryParseJoinAddress } from "./join-address.ts";

/** `[cluster] discovery`: a URL that says how the nodes find each other. */
export type DiscoverySpec =
  /** The nodes that are registered in a store, below a prefix. */
  | { readonly scheme: "consul" | "etcd"; readonly servers: readonly string[]; readonly prefix: string }
  /** A fixed list. */
  | { readonly scheme: "nodes"; readonly addresses: readonly JoinAddress[] }
  /** A list in a file, read again when it changes. */
  | { readonly scheme: "file"; readonly path: string };

export const discoverySchemes = ["consul", "etcd", "nodes", "file"] as const;
/** As many nodes are taken from a list. */
export const maxListed = 10_000;

const invalid = (text: string, reason: string): NetworkError =>
  badRequest("invalid-discovery", `invalid cluster.discovery: ${shown(text)}: ${reason}`);

/** @throws NetworkError `invalid-discovery` (bad request) that names the field */
export const parseDiscovery = (text: string): DiscoverySpec => {
  const match = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/(.*)$/s.exec(text);
  const scheme = discoverySchemes.find((known) => known === match?.[1]?.toLowerCase());
  const rest = match?.[2] ?? "";
  switch (scheme) {
    case undefined:
      throw invalid(text, `it begins with one of ${discoverySchemes.map((known) => `${known}://`).join(", ")}`);
    case "consul":
    case "etcd":
      return ofStore(scheme, rest, text);
    case "nodes": {
      const parts = rest.split(",").map((part) => part.trim());
      if (parts.length > maxListed) throw invalid(text, `more than ${maxListed} nodes`);
      const addresses = parts.map((part) => {
        const address = tryParseJoinAddress(part);
        if (!address) throw invalid(text, `${shown(part)} is not of the form host or host:port`);
        return address;
      });
      return { scheme, addresses };
    }
    case "file":
      if (!rest.startsWith("/") || rest.includes("\0") || rest.split("/").includes("..")) {
        throw invalid(text, "the path must be absolute and without ..: file:///etc/dnet/nodes");
      }
      return { scheme, path: rest };
  }
};

/** `parseDiscovery` without the error: undefined where the text is no such URL. */
export const tryParseDiscovery = (text: string): DiscoverySpec | undefined => {
  try {
    return parseDiscovery(text);
  } catch {
    return undefined;
  }
};

const ofStore = (scheme: "consul" | "etcd", rest: string, text: string): DiscoverySpec => {
  const cut = rest.indexOf("/");
  const [hosts, prefix] = cut < 0 ? [rest, ""] : [rest.slice(0, cut), rest.slice(cut + 1).replace(/\/+$/, "")];
  const servers = hosts.split(",").map((part) => {
    const address = tryParseJoinAddress(part.trim());
    if (address?.port === undefined) throw invalid(text, `${shown(part)} is not of the form host:port`);
    return part.trim();
  });
  if (scheme === "consul" && servers.length > 1) throw invalid(text, "consul has one address, that of an agent");
  if (prefix !== "" && !prefix.split("/").every((part) => /^[A-Za-z0-9_.-]+$/.test(part) && !/^\.+$/.test(part))) {
    throw invalid(text, `the prefix ${shown(prefix)} has letters, digits and _ . - between single slashes`);
  }
  return { scheme, servers, prefix };
};

/** True where both name the same place of the same store, by the same addresses. */
export const samePlace = (a: DiscoverySpec, b: DiscoverySpec): boolean =>
  "servers" in a &&
  "servers" in b &&
  a.scheme === b.scheme &&
  a.prefix === b.prefix &&
  [...a.servers].sort().join() === [...b.servers].sort().join();

/**
 * The nodes of a list: one a line, `#` begins a comment. Lines that are no address are left out and told.
 * @param refused is told the number (from 1) and the text of a line that is none
 */
export const parseNodeList = (text: string, refused: (line: number, text: string) => void): readonly JoinAddress[] => {
  const addresses: JoinAddress[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    const entry = line.replace(/#.*$/s, "").trim();
    if (entry === "") continue;
    const address = addresses.length < maxListed ? tryParseJoinAddress(entry) : undefined;
    if (address) addresses.push(address);
    else refused(index + 1, entry);
  }
  return addresses;
};
