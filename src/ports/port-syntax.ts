import { badRequest, type NetworkError, shown } from "../errors.ts";

/**
 * Docker's syntax of `-p`: `[ip:][host[-host]:]container[-container][/protocol]`, IPv6 addresses in brackets. Text in, numbers out,
 * nothing else: the command line uses it too.
 */

export interface ParsedPort {
  readonly protocol: "tcp" | "udp" | "sctp";
  /** As it was typed, without brackets; not checked. */
  readonly hostAddress?: string;
  readonly hostPort?: number;
  readonly hostPortEnd?: number;
  readonly port: number;
  readonly portEnd: number;
}

const invalid = (text: string, reason: string): NetworkError =>
  badRequest("invalid-port", `invalid port mapping ${shown(text)}: ${reason}`, {
    hint: "it has the form [ip:][host[-host]:]container[-container][/tcp|udp|sctp], an IPv6 address in brackets",
  });

const portRange = (range: string, text: string, what: string): readonly [number, number] => {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(range);
  if (!match) throw invalid(text, `invalid ${what} port: ${shown(range)}`);
  const first = Number(match[1]);
  const last = match[2] === undefined ? first : Number(match[2]);
  if (first < 1 || last > 65_535 || first > 65_535) throw invalid(text, `${what} ports are from 1 to 65535`);
  if (last < first) throw invalid(text, `the ${what} range ${range} ends before it begins`);
  return [first, last];
};

const splitProtocol = (text: string): readonly [string, ParsedPort["protocol"]] => {
  const at = text.lastIndexOf("/");
  const protocol = at < 0 ? "tcp" : text.slice(at + 1).toLowerCase();
  if (protocol !== "tcp" && protocol !== "udp" && protocol !== "sctp")
    throw invalid(text, `invalid protocol: ${shown(protocol)}`);
  return [at < 0 ? text : text.slice(0, at), protocol];
};

/** Parses a value of `-p`. @throws NetworkError `invalid-port` (bad request) */
export const parsePublish = (text: string): ParsedPort => {
  if (text.length > 200) throw invalid(text, "it is too long");
  const [mapping, protocol] = splitProtocol(text);
  // Up to the closing bracket an address; what is left has at most two colons.
  const match = /^(?:(\[[^\]]*\]|[^:[\]]*):(?=[^:]*:))?(?:([^:]*):)?([^:]*)$/.exec(mapping);
  if (!match) throw invalid(text, "there are too many colons");
  const [, address, host, container = ""] = match;
  if (container === "") throw invalid(text, "no port specified");
  const [port, portEnd] = portRange(container, text, "container");
  if (address === "[]") throw invalid(text, "the host address is empty");
  const result = { protocol, port, portEnd, ...(address && { hostAddress: address.replace(/^\[|\]$/g, "") }) };
  if (host === undefined || host === "") return result;
  const [hostPort, hostPortEnd] = portRange(host, text, "host");
  if (hostPortEnd - hostPort !== portEnd - port && portEnd !== port) {
    throw invalid(text, `invalid ranges specified for container and host Ports: ${container} and ${host}`);
  }
  return { ...result, hostPort, hostPortEnd };
};

/** Parses a value of `--expose`: `container[-container][/protocol]`. @throws NetworkError `invalid-port` (bad request) */
export const parseExpose = (text: string): ParsedPort => {
  if (text.length > 200) throw invalid(text, "it is too long");
  const [range, protocol] = splitProtocol(text);
  const [port, portEnd] = portRange(range, text, "container");
  return { protocol, port, portEnd };
};
