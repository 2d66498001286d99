import { badRequest, forbidden, NetworkError, noService, notImplemented } from "../errors.ts";
import type { SocketRequest } from "./kernel.ts";
import { errno, errnoText } from "./libc.ts";
import { portOwner } from "./port-owner.ts";

/** Why a port could not be held, in words for users: which port, who has it, what to do. */
export const explainHeldPort = (request: SocketRequest, error: unknown): unknown => {
  if (!(error instanceof NetworkError) || error.errno === undefined) return error;
  const { protocol, address, port, hold } = request;
  const shown = hold?.bothFamilies ? "0.0.0.0" : address.includes(":") ? `[${address}]` : address;
  const range = hold?.otherwise;
  const ports = range && range[0] > 0 ? `${range[0]}-${range[1]}` : String(port);
  const text = (reason: string): string => `failed to bind host port ${shown}:${ports}/${protocol}: ${reason}`;
  const details = { errno: error.errno, cause: error };
  switch (error.errno) {
    case errno.EADDRINUSE: {
      const owner = range ? undefined : portOwner(protocol, port);
      return forbidden("port-in-use", text(range ? "all ports are in use" : "address already in use"), {
        ...details,
        hint: `${owner === undefined ? "" : `${owner} has it; `}choose another host port, or none: then one is chosen for you`,
      });
    }
    case errno.EADDRNOTAVAIL:
      return badRequest("no-host-address", text("cannot assign requested address"), {
        ...details,
        hint: "publish on an address of this host; see them with: ip address",
      });
    case errno.EPROTONOSUPPORT:
    case errno.ESOCKTNOSUPPORT:
      return notImplemented("no-protocol", text(`this kernel has no ${protocol.toUpperCase()}`), {
        ...details,
        hint: `load its module: modprobe ${protocol}`,
      });
    case errno.EMFILE:
      return noService("too-many-files", text("too many open files"), {
        ...details,
        hint: "each published port takes a file of the daemon: raise its limit (LimitNOFILE of systemd, ulimit -n)",
      });
    default:
      return new NetworkError("internal", "host-port", text(errnoText(error.errno)), details);
  }
};
