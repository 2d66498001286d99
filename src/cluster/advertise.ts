import { badRequest, shown } from "../errors.ts";
import type { Observed, ObservedLink } from "../linux/kernel.ts";
import { type Family, familyOf, type Ip, tryParseIp } from "../net/ip.ts";
import { addressOf, lengthOf, prefixFamily } from "../net/prefix.ts";
import type { Log } from "./log.ts";

export interface Advertise {
  readonly address: Ip;
  /** False where no interface of the host carries the address (it is translated on the way): nothing can be bound to it. */
  readonly local: boolean;
}

const isLinkLocal = (ip: Ip): boolean => /^169\.254\./.test(ip) || /^fe[89ab]/.test(ip);
const isLoopback = (ip: Ip): boolean => ip.startsWith("127.") || ip === "::1";

/** Addresses of a link that other hosts may reach. */
const reachable = (link: ObservedLink): readonly Ip[] =>
  link.addresses.map(addressOf).filter((ip) => !isLinkLocal(ip) && !isLoopback(ip));

/** IPv4 before IPv6, else in the kernel's order (the primary address of a subnet first). */
const byFamily = (ips: readonly Ip[]): readonly Ip[] =>
  ([4, 6] as const satisfies readonly Family[]).flatMap((family) => ips.filter((ip) => familyOf(ip) === family));

/**
 * The address under which other nodes reach this one: what is configured, else that of the interface of the default route, else the
 * first global address, else the loopback's with a warning.
 * @param configured `[cluster] Address`: an address or the name of an interface
 * @param host links (those with an address are enough) and routes of the host's own namespace; undefined where they could not be read
 * @throws NetworkError `invalid-advertise` (bad request) where the interface does not exist or has no address
 */
export const advertiseAddress = (configured: string | undefined, host: Observed | undefined, log: Log): Advertise => {
  const links = host?.links ?? [];
  if (configured !== undefined && configured !== "") return ofConfiguration(configured, links);
  const found = byFamily(ofDefaultRoute(host))[0] ?? byFamily(links.filter(({ up }) => up).flatMap(reachable))[0];
  if (found !== undefined) return { address: found, local: true };
  log("warning", "this host has no address that others reach: 127.0.0.1 is advertised; set [cluster] Address");
  return { address: "127.0.0.1" as Ip, local: true };
};

const ofConfiguration = (configured: string, links: readonly ObservedLink[]): Advertise => {
  const fail = (reason: string) => badRequest("invalid-advertise", `invalid cluster.address: ${reason}`);
  const address = tryParseIp(configured);
  if (address !== undefined) {
    if (address === "0.0.0.0" || address === "::") throw fail(`${address} is no address that others can reach`);
    return { address, local: links.some((link) => link.addresses.some((own) => addressOf(own) === address)) };
  }
  const link = links.find(({ name }) => name === configured);
  const own = link && (byFamily(reachable(link))[0] ?? link.addresses.map(addressOf)[0]);
  if (own === undefined)
    throw fail(`${shown(configured)} is neither an address nor an interface of this host that has one`);
  return { address: own, local: true };
};

/** Addresses of the interface of the default route: the route's own source first, the lowest metric of each family first. */
const ofDefaultRoute = (host: Observed | undefined): readonly Ip[] => {
  const defaults = (host?.routes ?? []).filter(({ to, device }) => lengthOf(to) === 0 && device !== undefined);
  const sorted = [...defaults].sort((a, b) => (a.metric ?? 0) - (b.metric ?? 0));
  return sorted.flatMap(({ to, device, source }) => {
    const link = host?.links.find(({ name }) => name === device);
    const own = (link ? reachable(link) : []).filter((ip) => familyOf(ip) === prefixFamily(to));
    return source === undefined ? own : [source, ...own];
  });
};
