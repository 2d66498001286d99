import { badRequest, shown } from "../errors.ts";
import { familyOf, type Ip, tryParseIp } from "../net/ip.ts";
import { suggest } from "../suggest.ts";
import type { Options } from "./driver.ts";

/** Every option name of the drivers, in one place; the names are Docker's, but for those below `dnet.`. */
export const option = {
  mtu: "com.docker.network.driver.mtu",
  ifacePrefix: "com.docker.network.container_iface_prefix",
  hostIpv4: "com.docker.network.host_ipv4",
  hostIpv6: "com.docker.network.host_ipv6",
  bridgeName: "com.docker.network.bridge.name",
  defaultBridge: "com.docker.network.bridge.default_bridge",
  icc: "com.docker.network.bridge.enable_icc",
  hostBindingIpv4: "com.docker.network.bridge.host_binding_ipv4",
  masquerade: "com.docker.network.bridge.enable_ip_masquerade",
  vxlanIds: "com.docker.network.driver.overlay.vxlanid_list",
  multicast: "com.docker.network.driver.overlay.multicast",
  encrypted: "encrypted",
  gatewayModeIpv4: "com.docker.network.bridge.gateway_mode_ipv4",
  gatewayModeIpv6: "com.docker.network.bridge.gateway_mode_ipv6",
  inhibitIpv4: "com.docker.network.bridge.inhibit_ipv4",
  antiSpoofing: "dnet.bridge.anti_spoofing",
  trustedInterfaces: "com.docker.network.bridge.trusted_host_interfaces",
} as const;

/** Names by which the original took the same options in a request's generic part: those of its structure's fields. */
const legacyNames: Readonly<Record<string, string>> = {
  BridgeName: option.bridgeName,
  DefaultBridge: option.defaultBridge,
  EnableICC: option.icc,
  EnableIPMasquerade: option.masquerade,
  InhibitIPv4: option.inhibitIpv4,
  DefaultBindingIP: option.hostBindingIpv4,
  ContainerIfacePrefix: option.ifacePrefix,
  Mtu: option.mtu,
};

/** Options under today's names. @throws NetworkError `invalid-option` where an old name and a new one disagree */
export const modernOptions = (options: Options): Options => {
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(options)) {
    const modern = Object.hasOwn(legacyNames, name) ? (legacyNames[name] ?? name) : name;
    if (Object.hasOwn(result, modern) && result[modern] !== value) {
      throw badRequest("invalid-option", `invalid option ${shown(name)}: it is given twice, as ${modern} too`);
    }
    result[modern] = value;
  }
  return result;
};

/** Refuses options that the driver does not know, by name. @throws NetworkError `unknown-option` */
export const refuseUnknown = (driver: string, options: Options, known: readonly string[]): void => {
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) {
      const near = nearest(name, known);
      const all = known.length > 0 ? `it knows: ${known.join(", ")}` : "it takes no options";
      throw badRequest("unknown-option", `unknown option ${shown(name)} for driver ${driver}`, {
        hint: near === undefined ? all : `did you mean ${near}? ${all}`,
      });
    }
  }
};

/** Most mistakes are in the last word, or leave out all that comes before it. */
const nearest = (name: string, known: readonly string[]): string | undefined => {
  if (name.length > 100) return undefined;
  const lastWord = (text: string) => text.slice(text.lastIndexOf(".") + 1).toLowerCase();
  const near = suggest(lastWord(name), known.map(lastWord));
  return suggest(name, known) ?? known.find((candidate) => lastWord(candidate) === near);
};

/** A boolean option as Go's ParseBool reads it. @throws NetworkError `invalid-option` */
export const booleanOption = (options: Options, name: string, standard: boolean): boolean => {
  const text = options[name];
  if (text === undefined) return standard;
  if (["1", "t", "T", "true", "TRUE", "True"].includes(text)) return true;
  if (["0", "f", "F", "false", "FALSE", "False"].includes(text)) return false;
  throw badRequest("invalid-option", `invalid option ${name}: ${shown(text)} is not true or false`);
};

/** One of a few words; the first of them where the option is absent. @throws NetworkError `invalid-option` */
export const wordOption = <const W extends string>(
  options: Options,
  name: string,
  words: readonly [W, ...(readonly W[])],
): W => {
  const text = options[name];
  if (text === undefined) return words[0];
  const word = words.find((candidate) => candidate === text);
  if (word !== undefined) return word;
  throw badRequest("invalid-option", `invalid option ${name}: ${shown(text)} is not one of ${words.join(", ")}`);
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
  // `all` and `default` stand for every interface among the sysctls: the kernel gives such a link no IPv4.
  if (!/^[A-Za-z0-9][A-Za-z0-9_-]{0,14}$/.test(text) || text === "all" || text === "default") {
    throw badRequest("invalid-option", `invalid option ${name}: ${shown(text)} is not an interface name`, {
      hint: "1 to 15 letters, digits, - or _, and neither all nor default",
    });
  }
  return text;
};

/** The beginning of the names of sandboxes' interfaces; a number follows it. @throws NetworkError `invalid-option` */
export const interfacePrefixOption = (options: Options): string => {
  const prefix = interfaceNameOption(options, option.ifacePrefix) ?? "eth";
  if (prefix.length > 11 || prefix === "lo") {
    throw badRequest("invalid-option", `invalid option ${option.ifacePrefix}: ${shown(prefix)} does not do`, {
      hint: "at most 11 characters, and not lo",
    });
  }
  return prefix;
};

/** Names of interfaces of the host, divided by colons as Docker has it. @throws NetworkError `invalid-option` */
export const interfaceListOption = (options: Options, name: string): readonly string[] => {
  const names = (options[name] ?? "").split(":").filter((text) => text !== "");
  const wrong = names.find((text) => !/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$/.test(text));
  if (wrong !== undefined || names.length > 64) {
    const reason = wrong === undefined ? "more than 64 names" : `${shown(wrong)} is not an interface name`;
    throw badRequest("invalid-option", `invalid option ${name}: ${reason}`, { hint: "NAME[:NAME...]" });
  }
  return [...new Set(names)];
};
