import * as z from "zod";
import { type Ip, tryParseIp } from "../net/ip.ts";
import { type Mac, parseMac } from "../net/mac.ts";
import { type InterfaceAddress, type Prefix, parseInterfaceAddress, tryParsePrefix } from "../net/prefix.ts";
import { portCount } from "../ports/port-mapping.ts";
import { mostPorts, mostRuns, tryParseRequest } from "../ports/port-text.ts";

/** The records of the store, validated whenever they are read: the store is untrusted input. */

const id = z.string().regex(/^[0-9a-f]{64}$/);
const nodeId = z.string().regex(/^[0-9a-f]{8}$/);
const text = z.string().max(4096);
const strings = z.record(text, text);
const ip = z.string().transform((value, ctx): Ip => tryParseIp(value) ?? refuse(ctx, "not an address"));
const prefix = z.string().transform((value, ctx): Prefix => tryParsePrefix(value) ?? refuse(ctx, "not a prefix"));
const interfaceAddress = z.string().transform((value, ctx): InterfaceAddress => {
  try {
    return parseInterfaceAddress(value);
  } catch {
    return refuse(ctx, "not an address in CIDR form");
  }
});
const mac = z.string().transform((value, ctx): Mac => {
  try {
    return parseMac(value);
  } catch {
    return refuse(ctx, "not a MAC address");
  }
});

const refuse = (ctx: z.RefinementCtx, message: string): never => {
  ctx.addIssue({ code: "custom", message });
  return z.NEVER;
};

export const networkRecord = z.object({
  version: z.literal(1),
  id,
  name: text,
  driver: text,
  scope: z.enum(["local", "global"]),
  internal: z.boolean(),
  ipv6: z.boolean(),
  options: strings,
  labels: strings,
  subnets: z
    .array(
      z.object({
        pool: prefix,
        range: prefix.exactOptional(),
        gateway: interfaceAddress.exactOptional(),
        vni: z.int().min(1).max(0xffffff).exactOptional(),
      }),
    )
    .max(64),
  /** Addresses that no endpoint gets, by name. */
  auxiliary: z.record(text, ip),
  created: z.iso.datetime(),
});
export type NetworkRecord = z.infer<typeof networkRecord>;

export const endpointRecord = z.object({
  version: z.literal(1),
  id,
  network: id,
  name: text,
  aliases: z.array(text).max(256),
  addresses: z.array(interfaceAddress).max(64),
  mac: mac.exactOptional(),
  options: strings,
  created: z.iso.datetime(),
  /** Without a shared store: the node whose endpoint it is, as that node announced it. Absent on this node's own. */
  announcedBy: nodeId.exactOptional(),
  /** The sandbox that claims the endpoint; a claim is taken and given back in one transaction. */
  sandbox: z
    .object({
      id,
      /** The node that the sandbox is on, and where it takes encapsulated packets. */
      node: nodeId,
      vtep: ip.exactOptional(),
      container: text,
      interface: z.string().regex(/^[A-Za-z0-9_-]{1,15}$/),
      /** Order of joining within the sandbox, from 0. */
      order: z.int().nonnegative(),
      /** `name` or `container:alias`, valid in this sandbox only. */
      aliases: z.array(text).max(256),
      /** The endpoint with the highest one carries the sandbox's default route; 0 where absent. */
      priority: z.int().min(-1_000_000).max(1_000_000).exactOptional(),
    })
    .exactOptional(),
});
export type EndpointRecord = z.infer<typeof endpointRecord>;

const ports = z
  .array(text.refine((value) => tryParseRequest(value) !== undefined, "not a port mapping"))
  .max(mostRuns)
  .refine(
    (values) => portCount(values.flatMap((value) => tryParseRequest(value) ?? [])) <= mostPorts,
    "too many ports",
  );

export const sandboxRecord = z.object({
  version: z.literal(1),
  id,
  container: text,
  hostName: text,
  domainName: text,
  hostsPath: text.exactOptional(),
  resolvConfPath: text.exactOptional(),
  dns: z.array(ip).max(16),
  dnsSearch: z.array(text).max(64),
  dnsOptions: z.array(text).max(64),
  extraHosts: z.array(z.object({ name: text, address: ip })).max(1024),
  /** Ports to publish, as they were asked for: `127.0.0.1:8080:80/tcp`. */
  ports: ports.exactOptional(),
  /** Ports that its programs serve, published or not: `80/tcp`. */
  exposed: ports.exactOptional(),
  /** What was given for `ports` the last time; given again where it is free. */
  published: ports.exactOptional(),
  /** The host's own stack. */
  host: z.boolean(),
  /** Its removal has begun: endpoints may be gone from the shared store already. Whoever finds it goes on. */
  removing: z.literal(true).exactOptional(),
  created: z.iso.datetime(),
});
export type SandboxRecord = z.infer<typeof sandboxRecord>;

/** Keys of the store, below the prefix of their scope. */
export const keys = {
  network: (network: string) => `networks/${network}`,
  /** Makes a network's name unique. */
  networkName: (name: string) => `network-names/${name}`,
  /** Written by every change of the pools of an address space: two nodes cannot choose overlapping pools. */
  pools: "pools",
  /** Makes a segment id unique among the networks of a driver: `segments/overlay/256`. */
  segment: (driver: string, vni: number) => `segments/${driver}/${vni}`,
  /** Written whenever an endpoint is added: a network with endpoints cannot be removed beside it. */
  networkUse: (network: string) => `network-use/${network}`,
  endpoint: (network: string, endpoint: string) => `endpoints/${network}/${endpoint}`,
  endpointName: (network: string, name: string) => `endpoint-names/${network}/${name}`,
  /** Makes an address unique within its network. */
  address: (network: string, address: Ip) => `addresses/${network}/${address.replaceAll(":", "-")}`,
  sandbox: (sandbox: string) => `sandboxes/${sandbox}`,
  container: (container: string) => `containers/${container}`,
} as const;
