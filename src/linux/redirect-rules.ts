import { NetworkError } from "../errors.ts";
import { errno } from "./libc.ts";
import { NETLINK_NETFILTER } from "./netlink/nftables.ts";
import { readRedirect, redirectQuery, type ShownRedirect } from "./netlink/redirect.ts";
import { NetlinkSocket } from "./netlink/socket.ts";
import type { Redirect } from "./redirect.ts";

/** What the rules of a redirect say, in the namespace in which the calling thread is; no ports where there is no such table. */
export const shownRedirect = (redirect: Pick<Redirect, "table" | "address" | "port">): ShownRedirect => {
  const socket = new NetlinkSocket(NETLINK_NETFILTER);
  try {
    const rules = socket.dump(redirectQuery(redirect.table)).map(({ body }) => body);
    return readRedirect(rules, redirect);
  } catch (error) {
    if (error instanceof NetworkError && error.errno === errno.ENOENT) return { whole: false };
    throw error;
  } finally {
    socket.close();
  }
};

/** True where what is shown is just this redirect. */
export const isRedirect = ({ udp, tcp, whole }: ShownRedirect, redirect: Pick<Redirect, "udp" | "tcp">): boolean =>
  whole && udp === redirect.udp && tcp === redirect.tcp;
