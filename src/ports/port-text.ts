import { badRequest, NetworkError } from "../errors.ts";
import { type Ip, tryParseIp } from "../net/ip.ts";
import type { PortRequest, PublishedPort } from "./port-mapping.ts";
import { parsePublish } from "./port-syntax.ts";

/** Ports as text: how they are typed, kept in records and shown. */

/** Runs of ports that a sandbox may have: its record is of bounded length. A range that goes one to one is one run. */
export const mostRuns = 10_000;

/** Ports that a sandbox may have, ranges counted whole: each is held by a socket. */
export const mostPorts = 65_535;

const range = (first: number, last: number): string => (last === first ? `${first}` : `${first}-${last}`);

const inBrackets = (address: Ip): string => (address.includes(":") ? `[${address}]` : address);

/** As it is typed: `127.0.0.1:8080:80/tcp`. */
export const requestText = ({ protocol, hostAddress, hostPort, hostPortEnd, port, count }: PortRequest): string => {
  const host = hostPort === undefined ? "" : range(hostPort, hostPortEnd ?? hostPort + count - 1);
  const address = hostAddress === undefined ? "" : `${inBrackets(hostAddress)}:`;
  const before = address === "" && host === "" ? "" : `${address}${host}:`;
  return `${before}${range(port, port + count - 1)}/${protocol}`;
};

/** As `docker ps` shows it: `0.0.0.0:8080->80/tcp`. */
export const publishedText = ({ protocol, hostAddress, hostPort, port, count }: PublishedPort): string => {
  const to = `${range(hostPort, hostPort + count - 1)}->${range(port, port + count - 1)}/${protocol}`;
  return hostAddress === undefined ? `0.0.0.0:${to}, [::]:${to}` : `${inBrackets(hostAddress)}:${to}`;
};

/** Reads what `requestText` writes. @throws NetworkError `invalid-port` (bad request) */
export const parseRequest = (text: string): PortRequest => {
  const { protocol, hostAddress, hostPort, hostPortEnd, port, portEnd } = parsePublish(text);
  const address = hostAddress === undefined ? undefined : tryParseIp(hostAddress);
  if (hostAddress !== undefined && address === undefined) {
    throw badRequest("invalid-port", "invalid port mapping: its host address is none");
  }
  return {
    protocol,
    ...(address !== undefined && { hostAddress: address }),
    ...(hostPort !== undefined && hostPortEnd !== undefined && { hostPort, hostPortEnd }),
    port,
    count: portEnd - port + 1,
  };
};

export const tryParseRequest = (text: string): PortRequest | undefined => {
  try {
    return parseRequest(text);
  } catch (error) {
    if (error instanceof NetworkError) return undefined;
    throw error;
  }
};

/** A request that was given exactly: a run of host ports and a run of ports as long. */
export const asPublished = ({ hostPortEnd: _, hostPort, ...request }: PortRequest): PublishedPort | undefined =>
  hostPort === undefined ? undefined : { ...request, hostPort };
