import { badRequest, forbidden, NetworkError, noService, notImplemented } from "../errors.ts";
import type { SocketRequest } from "./kernel.ts";
import { errno, errnoText } from "./libc.ts";
import { portOwner } from "./port-owner.ts";

/** `0.0.0.0:8080/tcp`, as Docker names a port. */
const portText = ({ protocol, address, port, hold }: SocketRequest): string => {
  const shown = hold?.bothFamilies ? "0.0.0.0" : address.includes(":") ? `[${address}]` : address;
  const [first, last] = hold?.otherwise ?? [port, port];
  return `${shown}:${first === last ? first : `${first}-${last}`}/${protocol}`;
};

/** Why a port could not be held, in words for users: which port, who has it, what to do. */
export const explainHeldPort = (request: SocketRequest, error: unknown): unknown => {
  if (!(error instanceof NetworkError) || error.errno === undefined) return error;
  const { protocol } = request;
  const where = portText(request);
  const details = { errno: error.errno, cause: error };
  switch (error.errno) {
    case errno.EADDRINUSE:
      return inUse(request, where, details);
    case errno.EADDRNOTAVAIL:
      return badRequest("no-host-address", `failed to bind host port ${where}: cannot assign requested address`, {
        ...details,
        hint: "publish on an address of this host; see them with: ip address",
      });
    case errno.EPROTONOSUPPORT:
    case errno.ESOCKTNOSUPPORT:
      return notImplemented(
        "no-protocol",
        `failed to bind host port ${where}: this kernel has no ${protocol.toUpperCase()}`,
        {
          ...details,
          hint: `load its module: modprobe ${protocol}`,
        },
      );
    case errno.EMFILE:
      return noService("too-many-files", `failed to bind host port ${where}: too many open files`, {
        ...details,
        hint: "each published port takes a file of the daemon: raise its limit (LimitNOFILE of systemd, ulimit -n)",
      });
    default:
      return new NetworkError(
        "internal",
        "host-port",
        `failed to bind host port ${where}: ${errnoText(error.errno)}`,
        details,
      );
  }
};

const inUse = (request: SocketRequest, where: string, details: { readonly errno: number; readonly cause: unknown }) => {
  const { protocol, port, hold } = request;
  if ((hold?.otherwise?.[1] ?? port) === 0) {
    return forbidden("no-free-port", `no ephemeral port of this host is free for ${protocol}`, {
      ...details,
      hint: "see the range with: sysctl net.ipv4.ip_local_port_range",
    });
  }
  if (hold?.otherwise) {
    return forbidden("no-free-port", `failed to bind host port ${where}: all ports are in use`, {
      ...details,
      hint: "choose another range, or no host port: then one is chosen for you",
    });
  }
  const owner = portOwner(protocol, port);
  return forbidden("port-in-use", `failed to bind host port ${where}: address already in use`, {
    ...details,
    hint: `${owner === undefined ? "" : `${owner} has it; `}choose another host port, or none: then one is chosen for you`,
  });
};
