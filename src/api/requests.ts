import type {
  AttachOptions,
  CreateEndpoint,
  CreateNetwork,
  CreateSandbox,
  SubnetRequest,
} from "../controller/model.ts";
import { badRequest, notImplemented, shown } from "../errors.ts";
import { type Ip, parseIp } from "../net/ip.ts";
import { parseMac } from "../net/mac.ts";
import { type Prefix, tryParsePrefix } from "../net/prefix.ts";
import { readFields } from "./body.ts";
import { pairSubnets } from "./pair-subnets.ts";
import { exposedPorts, portRequests } from "./port-requests.ts";

/** From bodies of requests to what the controller takes. */

const internalOption = "com.docker.network.internal";
const ipv6Option = "com.docker.network.enable_ipv6";
/** As many as a record holds. */
const maxSubnets = 64;
/** Of one map: options, labels, auxiliary addresses. */
const maxEntries = 256;
const genericOption = "com.docker.network.generic";

/** Go's strconv.ParseBool and its words. */
const parseBool = (value: unknown): boolean => {
  if (typeof value === "boolean") return value;
  if (typeof value === "string" && ["1", "t", "T", "true", "TRUE", "True"].includes(value)) return true;
  if (typeof value === "string" && ["0", "f", "F", "false", "FALSE", "False"].includes(value)) return false;
  throw badRequest("invalid-boolean", `strconv.ParseBool: parsing ${shown(String(value))}: invalid syntax`);
};

/** Values are text, as in the original; numbers and booleans are written out. */
const textMap = (value: Readonly<Record<string, unknown>>, field: string): Record<string, string> => {
  const entries = Object.entries(value).filter(([, inner]) => inner !== null);
  if (entries.length > maxEntries)
    throw badRequest("too-many-entries", `invalid ${field}: at most ${maxEntries} entries`);
  for (const [name, inner] of entries) {
    if (name === "__proto__" || !["string", "number", "boolean"].includes(typeof inner)) {
      throw badRequest("invalid-option", `invalid ${field}: the value of ${shown(name)} is not text`);
    }
  }
  return Object.fromEntries(entries.map(([name, inner]) => [name, String(inner)]));
};

/** Options, those in a map of their own under Docker's generic name included. */
const optionMap = (value: Readonly<Record<string, unknown>>, field: string): Record<string, string> => {
  const { [genericOption]: generic, ...more } = value;
  const inner = typeof generic === "object" && generic !== null && !Array.isArray(generic) ? generic : {};
  return { ...textMap(more, field), ...textMap(inner as Readonly<Record<string, unknown>>, field) };
};

const subnetRequest = (value: unknown): SubnetRequest => {
  const {
    PreferredPool = "",
    SubPool = "",
    Gateway = "",
    AuxAddresses = {},
  } = readFields(value, "ipamConf", {
    PreferredPool: "string",
    SubPool: "string",
    Gateway: "string",
    AuxAddresses: "map",
  });
  const prefix = (text: string): Prefix | undefined => {
    if (text === "") return undefined;
    const parsed = tryParsePrefix(text);
    if (parsed !== undefined) return parsed;
    const pool = shown(PreferredPool);
    const part = shown(SubPool);
    throw badRequest(
      "invalid-pool",
      `failed to parse pool request for address space "LocalDefault" pool ${pool} subpool ${part}: Invalid Address Pool`,
      { hint: "a pool has the form 10.50.0.0/16" },
    );
  };
  const pool = prefix(PreferredPool);
  const range = prefix(SubPool);
  return {
    ...(pool !== undefined && { pool }),
    ...(range !== undefined && { range }),
    // The original takes a gateway with or without the length of its network.
    ...(Gateway !== "" && { gateway: parseIp(Gateway.replace(/\/\d+$/, ""), "gateway") }),
    auxiliary: Object.fromEntries(
      Object.entries(textMap(AuxAddresses, "AuxAddresses")).map(([name, text]) => [
        name,
        parseIp(text.replace(/\/\d+$/, ""), `auxiliary address ${shown(name)}`),
      ]),
    ),
  };
};

export const networkRequest = (body: unknown): CreateNetwork => {
  const fields = readFields(body, "networkCreate", {
    name: "string",
    id: "string",
    network_type: "string",
    ipv4_configuration: "objects",
    ipv6_configuration: "objects",
    driver_opts: "map",
    network_opts: "map",
    labels: "map",
  });
  const configurations = [...(fields.ipv4_configuration ?? []), ...(fields.ipv6_configuration ?? [])];
  if (configurations.length > maxSubnets) {
    throw badRequest("too-many-subnets", `invalid subnets: a network has at most ${maxSubnets}`);
  }
  const { [internalOption]: internal, [ipv6Option]: ipv6, ...more } = fields.network_opts ?? {};
  return {
    name: fields.name ?? "",
    ...(fields.id && { id: fields.id }),
    ...(fields.network_type && { driver: fields.network_type }),
    ...(internal !== undefined && { internal: parseBool(internal) }),
    ...(ipv6 !== undefined && { ipv6: parseBool(ipv6) }),
    options: { ...optionMap(more, "network_opts"), ...optionMap(fields.driver_opts ?? {}, "driver_opts") },
    labels: textMap(fields.labels ?? {}, "labels"),
    subnets: pairSubnets(configurations.map(subnetRequest)),
  };
};

const endpointFields = {
  name: "string",
  my_aliases: "strings",
  network_name: "string",
  ip_addresses: "strings",
  mac_address: "string",
  exposed_ports: "any",
  port_mapping: "any",
} as const;

/** Bodies of `POST .../endpoints` and of `POST /services`, which names the network too. */
export const endpointRequest = (
  body: unknown,
  structure: "endpointCreate" | "servicePublish",
): { readonly network: string; readonly request: CreateEndpoint } => {
  const fields = readFields(body, structure, endpointFields);
  refusePorts(fields.port_mapping);
  return {
    network: fields.network_name ?? "",
    request: {
      name: fields.name ?? "",
      aliases: fields.my_aliases ?? [],
      addresses: (fields.ip_addresses ?? []).map((text) => parseIp(text)),
      ...(fields.mac_address && { mac: parseMac(fields.mac_address) }),
    },
  };
};

const refusePorts = (mapping: unknown): void => {
  if (Array.isArray(mapping) ? mapping.length > 0 : mapping !== undefined) {
    throw notImplemented("no-service-ports", "ports (port_mapping) are published for a container, not for a service", {
      hint: "dnet container create -p 8080:80 CONTAINER",
    });
  }
};

/** A path that a file is written to: absolute and without a way up. */
const checkPath = (path: string, field: string): string => {
  if (!path.startsWith("/") || path.includes("\0") || path.split("/").includes("..") || path.length > 4095) {
    throw badRequest("invalid-path", `invalid ${field}: it must be an absolute path without ..`);
  }
  return path;
};

/** Words of files that resolvers read: no white space, no control characters. */
const checkWord = (text: string, field: string): string => {
  if (!/^[\x21-\x7e]{0,253}$/.test(text)) {
    throw badRequest("invalid-word", `invalid ${field}: ${shown(text)} is not one word of plain letters`);
  }
  return text;
};

export const sandboxRequest = (body: unknown): CreateSandbox => {
  const fields = readFields(body, "sandboxCreate", {
    container_id: "string",
    host_name: "string",
    domain_name: "string",
    hosts_path: "string",
    resolv_conf_path: "string",
    dns: "strings",
    dns_search: "strings",
    dns_options: "strings",
    extra_hosts: "objects",
    exposed_ports: "any",
    port_mapping: "any",
    publish_all: "boolean",
    use_default_sandbox: "boolean",
    use_external_key: "boolean",
  });
  const exposed = exposedPorts(fields.exposed_ports);
  const ports = portRequests(fields.port_mapping, exposed, fields.publish_all ?? false);
  if (fields.use_external_key) {
    throw notImplemented(
      "no-external-key",
      "sandboxes whose namespace somebody else makes are not supported by this version",
    );
  }
  const extraHosts = (fields.extra_hosts ?? []).map((item): { name: string; address: Ip } => {
    const { name = "", address = "" } = readFields(item, "extraHost", { name: "string", address: "string" });
    return { name: checkWord(name, "name of an extra host"), address: parseIp(address, "address of an extra host") };
  });
  return {
    containerId: fields.container_id ?? "",
    hostName: checkWord(fields.host_name ?? "", "host_name"),
    domainName: checkWord(fields.domain_name ?? "", "domain_name"),
    ...(fields.hosts_path && { hostsPath: checkPath(fields.hosts_path, "hosts_path") }),
    ...(fields.resolv_conf_path && { resolvConfPath: checkPath(fields.resolv_conf_path, "resolv_conf_path") }),
    dns: (fields.dns ?? []).map((text) => parseIp(text, "dns server")),
    dnsSearch: (fields.dns_search ?? []).map((text) => checkWord(text, "dns_search")),
    dnsOptions: (fields.dns_options ?? []).map((text) => checkWord(text, "dns_options")),
    extraHosts,
    ...(ports.length > 0 && { ports }),
    ...(exposed.length > 0 && { exposed }),
    useDefaultSandbox: fields.use_default_sandbox ?? false,
  };
};

/** Body of a join: the sandbox, its aliases, and the priority of the default route. */
export const joinRequest = (body: unknown): { readonly sandbox: string; readonly options: AttachOptions } => {
  const {
    sandbox_id = "",
    aliases = [],
    gateway_priority = 0,
  } = readFields(body, "endpointJoin", {
    sandbox_id: "string",
    aliases: "strings",
    gateway_priority: "any",
  });
  const priority = Number(gateway_priority);
  if (!Number.isInteger(priority) || Math.abs(priority) > 1_000_000) {
    throw badRequest("invalid-priority", "invalid gateway_priority: not an integer between -1000000 and 1000000");
  }
  return { sandbox: sandbox_id, options: { aliases, gatewayPriority: priority } };
};

/** Body of an unpublish, which must be there. */
export const unpublishRequest = (body: unknown): { readonly force: boolean } => {
  const { force = false } = readFields(body, "serviceDelete", { name: "string", force: "boolean" });
  return { force };
};
