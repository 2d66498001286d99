import { badRequest, shown } from "../errors.ts";
import { familyOf, type Ip, tryParseIp } from "../net/ip.ts";
import type { Options } from "./driver.ts";

/** Every option name of the drivers, in one place; the names are Docker's. */
export const option = {
  mtu: "com.docker.network.driver.mtu",
  ifacePrefix: "com.docker.network.container_iface_prefix",
  bridgeName: "com.docker.network.bridge.name",
  defaultBridge: "com.docker.network.bridge.default_bridge",
  icc: "com.docker.network.bridge.enable_icc",
  hostBindingIpv4: "com.docker.network.bridge.host_binding_ipv4",
  masquerade: "com.docker.network.bridge.enable_ip_masquerade",
} as const;

/** Refuses options that the driver does not know, by name. @throws NetworkError `unknown-option` */
export const refuseUnknown = (driver: string, options: Options, known: readonly string[]): void => {
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) {
      throw badRequest("unknown-option", `unknown option ${shown(name)} for driver ${driver}`, {
        hint: known.length > 0 ? `it knows: ${known.join(", ")}` : "it takes no options",
      });
    }
  }
};

/** A boolean option as Go's ParseBool reads it. @throws NetworkError `invalid-option` */
export const booleanOption = (options: Options, name: string, standard: boolean): boolean => {
  const text = options[name];
  if (text === undefined) return standard;
  if (["1", "t", "T", "true", "TRUE", "True"].includes(text)) return true;
  if (["0", "f", "F", "false", "FALSE", "False"].includes(text)) return false;
  throw badRequest("invalid-option", `invalid option ${name}: ${shown(text)} is not true or false`);
};

/** MTU in bytes, or undefined where the option is absent. @throws NetworkError `invalid-option` */
export const mtuOption = (options: Options): number | undefined => {
  const text = options[option.mtu];
  if (text === undefined) return undefined;
  const mtu = Number(text);
  if (!/^\d+$/.test(text) || mtu < 68 || mtu > 65535) {
    throw badRequest("invalid-option", `invalid option ${option.mtu}: ${shown(text)} is not between 68 and 65535`);
  }
  return mtu;
};

/** An address of one family, or undefined where the option is absent. @throws NetworkError `invalid-option` */
export const addressOption = (options: Options, name: string, family: 4 | 6): Ip | undefined => {
  const text = options[name];
  if (text === undefined) return undefined;
  const ip = tryParseIp(text);
  if (ip !== undefined && familyOf(ip) === family) return ip;
  throw badRequest("invalid-option", `invalid option ${name}: ${shown(text)} is not an IPv${family} address`);
};

/** An interface name that is safe in paths, in nft scripts and for the kernel. @throws NetworkError `invalid-option` */
export const interfaceNameOption = (options: Options, name: string): string | undefined => {
  const text = options[name];
  if (text === undefined) return undefined;
  if (!/^[A-Za-z0-9][A-Za-z0-9_-]{0,14}$/.test(text)) {
    throw badRequest("invalid-option", `invalid option ${name}: ${shown(text)} is not an interface name`, {
      hint: "1 to 15 letters, digits, - or _",
    });
  }
  return text;
};
