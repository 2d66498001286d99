import { errorText, forbidden, internal, NetworkError } from "../errors.ts";
import { describeShort } from "./describe.ts";
import { errno } from "./libc.ts";
import type { Operation } from "./plan.ts";

/** Ports of a Linux bridge: BR_MAX_PORTS of net/bridge/br_private.h, less the one whose number means none. */
const bridgePorts = 1023;

const sysctlHints: Readonly<Record<string, string>> = {
  "net/ipv4/ip_forward":
    "sandboxes need it to reach anything outside: set net.ipv4.ip_forward=1 on this host, or create the network with --internal",
  "net/ipv6/conf/all/forwarding":
    "sandboxes need it to reach anything outside by IPv6: set net.ipv6.conf.all.forwarding=1 on this host, or create the network without IPv6",
};

/** What to do about a refusal of the kernel, where that is known. */
const hintOf = (operation: Operation, number: number | undefined): string | undefined => {
  if (operation.op === "sysctl.set" && number !== errno.ENOENT) return sysctlHints[operation.key];
  if (operation.op === "link.add" && number === errno.EOPNOTSUPP) {
    const { kind } = operation.link;
    return `this kernel has no links of kind ${kind}: modprobe ${kind}, or install the kernel's package of modules`;
  }
  return undefined;
};

/** An error as users see it: what was tried, in the words of `ip`, and what the kernel said. */
export const explainError = (operation: Operation, error: unknown): NetworkError => {
  const text = `${describeShort(operation)}: ${errorText(error)}`;
  if (!(error instanceof NetworkError)) return internal("kernel", text, { cause: error });
  const { errno: number } = error;
  const master = operation.op === "link.add" ? operation.link.master : undefined;
  if (master !== undefined && number === errno.EXFULL) {
    return forbidden(
      "bridge-full",
      `bridge ${master} is full: it has ${bridgePorts} ports, and no Linux bridge has more`,
      {
        errno: number,
        hint: "publish the service in another network",
      },
    );
  }
  const hint = hintOf(operation, number) ?? error.hint;
  return new NetworkError(error.kind, error.code, text, {
    ...(hint !== undefined && { hint }),
    ...(number !== undefined && { errno: number }),
  });
};
