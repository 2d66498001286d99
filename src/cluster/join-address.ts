import { familyOf, tryParseIp } from "../net/ip.ts";

/** Where a node may be found: an address or a host name; without a port it is the cluster's standard port. */
export interface JoinAddress {
  readonly host: string;
  readonly port?: number;
}

/** A host name: RFC 1123 labels (and the underscore that some name services use). */
const hostName =
  /^(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*$/;

/** `host`, `host:port`, `[2001:db8::1]:port` or a bare IPv6 address; undefined where the text is none of them. */
export const tryParseJoinAddress = (text: string): JoinAddress | undefined => {
  const bare = tryParseIp(text);
  if (bare !== undefined) return { host: bare };
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text);
  if (!match) return undefined;
  const [, six, plain = "", digits] = match;
  const host =
    six === undefined
      ? (tryParseIp(plain) ?? (hostName.test(plain) && !/^[\d.]+$/.test(plain) ? plain : undefined))
      : tryParseIp(six);
  if (host === undefined) return undefined;
  if (digits === undefined) return { host };
  const port = Number(digits);
  return port >= 1 && port <= 65535 ? { host, port } : undefined;
};

/** `host:port`, IPv6 in brackets. */
export const joinText = ({ host, port }: JoinAddress, standardPort: number): string => {
  const ip = tryParseIp(host);
  return `${ip !== undefined && familyOf(ip) === 6 ? `[${host}]` : host}:${port ?? standardPort}`;
};
