import { NetworkError } from "../errors.ts";
import { errno } from "./libc.ts";
import { NETLINK_NETFILTER } from "./netlink/nftables.ts";
import { decodeRedirect, redirectQuery } from "./netlink/redirect.ts";
import { NetlinkSocket } from "./netlink/socket.ts";

/** The rules of a redirect's table, in the namespace in which the calling thread is; none where there is no such table. */
export const redirectRules = (table: string): readonly Buffer[] => {
  const socket = new NetlinkSocket(NETLINK_NETFILTER);
  try {
    return socket.dump(redirectQuery(table)).map(({ body }) => body);
  } catch (error) {
    if (error instanceof NetworkError && error.errno === errno.ENOENT) return [];
    throw error;
  } finally {
    socket.close();
  }
};

/** Where such rules lead. */
export const redirectPorts = (rules: readonly Buffer[]): { readonly udp?: number; readonly tcp?: number } =>
  Object.fromEntries(
    rules.flatMap((rule) => decodeRedirect(rule) ?? []).map(({ protocol, port }) => [protocol, port] as const),
  );
