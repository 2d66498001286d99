import { badRequest, shown } from "../errors.ts";
import { type Ip, parseIp } from "../net/ip.ts";
import {
  bindingsOverlap,
  type ExposedPort,
  type PortProtocol,
  type PortRequest,
  portCount,
} from "../ports/port-mapping.ts";
import { mostPorts, mostRuns, requestText } from "../ports/port-text.ts";
import { readFields } from "./body.ts";

/** The original's `port_mapping` and `exposed_ports`, with ranges of ours: `PortEnd` beside `Port`. */

/** Bytes of all mappings as text: what was given takes as much again and more. */
const mostText = 152_000;
const mostExposed = 1000;

/** in.h: IPPROTO_* */
const protocols: Readonly<Record<string, PortProtocol>> = {
  6: "tcp",
  17: "udp",
  132: "sctp",
  tcp: "tcp",
  udp: "udp",
  sctp: "sctp",
};

const invalid = (reason: string) => badRequest("invalid-port", `invalid port: ${reason}`);

const list = (value: unknown, structure: string, field: string): readonly unknown[] => {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) return value;
  const type = typeof value === "boolean" ? "bool" : typeof value;
  throw badRequest(
    "invalid-body",
    `Invalid body: json: cannot unmarshal ${type} into Go struct field sandboxCreate.${field} of type []types.${structure}`,
  );
};

const protocolOf = (value: unknown): PortProtocol => {
  const text = value === undefined || value === 0 ? "tcp" : String(value).toLowerCase();
  const protocol = Object.hasOwn(protocols, text) ? protocols[text] : undefined;
  if (protocol) return protocol;
  throw badRequest("invalid-port", `invalid protocol: ${shown(String(value))} is not 6 (tcp), 17 (udp) or 132 (sctp)`);
};

/** A port number; 0 and nothing mean that none was given, as in the original. */
const portOf = (value: unknown, field: string): number | undefined => {
  if (value === undefined || value === 0) return undefined;
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > 65_535) {
    throw invalid(`${field} is not a number from 1 to 65535`);
  }
  return value;
};

const run = (first: number, last: number | undefined, field: string): number => {
  if (last !== undefined && last < first) throw invalid(`the range ${first}-${last} of ${field} ends before it begins`);
  return (last ?? first) - first + 1;
};

const exposedPort = (value: unknown, structure: string): ExposedPort => {
  const { Proto, Port, PortEnd } = readFields(value, structure, { Proto: "any", Port: "any", PortEnd: "any" });
  const port = portOf(Port, "Port");
  if (port === undefined) throw invalid("no Port given");
  return { protocol: protocolOf(Proto), port, count: run(port, portOf(PortEnd, "PortEnd"), "Port") };
};

const hostAddressOf = (text: string | undefined): Ip | undefined =>
  text === undefined || text === "" ? undefined : parseIp(text, "host address of a port");

const portRequest = (value: unknown): PortRequest => {
  const exposed = exposedPort(value, "PortBinding");
  const fields = readFields(value, "PortBinding", { HostIP: "string", HostPort: "any", HostPortEnd: "any" });
  const hostAddress = hostAddressOf(fields.HostIP);
  const hostPort = portOf(fields.HostPort, "HostPort");
  const hostPortEnd = portOf(fields.HostPortEnd, "HostPortEnd") ?? hostPort;
  const address = hostAddress === undefined ? {} : { hostAddress };
  if (hostPort === undefined || hostPortEnd === undefined) return { ...exposed, ...address };
  const count = run(hostPort, hostPortEnd, "HostPort");
  if (exposed.count > 1 && count === 1) {
    if (hostPort + exposed.count - 1 > 65_535) throw invalid(`no ${exposed.count} host ports from ${hostPort} on`);
    return { ...exposed, ...address, hostPort, hostPortEnd: hostPort + exposed.count - 1 };
  }
  if (exposed.count > 1 && exposed.count !== count) {
    const container = `${exposed.port}-${exposed.port + exposed.count - 1}`;
    throw invalid(`invalid ranges specified for container and host Ports: ${container} and ${hostPort}-${hostPortEnd}`);
  }
  return { ...exposed, ...address, hostPort, hostPortEnd };
};

/** What a record holds: each port that is chosen may be a run of its own. Its value in the store is of bounded length. */
const checkTotal = (ports: readonly PortRequest[]): readonly PortRequest[] => {
  if (portCount(ports) > mostPorts) {
    throw badRequest("too-many-ports", `invalid ports: a container has at most ${mostPorts}, ranges counted whole`);
  }
  const runs = ports.reduce((sum, { count, hostPort }) => sum + (hostPort === undefined ? count : 1), 0);
  const length = ports.reduce((sum, port) => sum + requestText(port).length + 3, 0);
  if (runs > mostRuns || length > mostText) {
    throw badRequest("too-many-ports", `invalid ports: ${runs} mappings, and a container has at most ${mostRuns}`, {
      hint: "ranges that go one to one count once: 10000-19999:10000-19999; many addresses make it fewer",
    });
  }
  return ports;
};

/** @throws NetworkError `invalid-port`, `invalid-body`, `invalid-address` (bad request) */
export const exposedPorts = (value: unknown): readonly ExposedPort[] => {
  const items = list(value, "TransportPort", "exposed_ports");
  if (items.length > mostExposed) throw invalid(`more than ${mostExposed} exposed ports`);
  return items.map((item) => exposedPort(item, "TransportPort"));
};

/**
 * @param all whether exposed ports without a mapping get one each
 * @throws NetworkError `invalid-port`, `invalid-body`, `invalid-address` (bad request)
 */
export const portRequests = (value: unknown, exposed: readonly ExposedPort[], all: boolean): readonly PortRequest[] => {
  const given = list(value, "PortBinding", "port_mapping").map(portRequest);
  const more = all ? exposed.filter((port) => !given.some((other) => covers(other, port))) : [];
  const ports = checkTotal([...given, ...more]);
  refuseTwice(ports);
  return ports;
};

const covers = (outer: ExposedPort, inner: ExposedPort): boolean =>
  outer.protocol === inner.protocol && outer.port <= inner.port && inner.port + inner.count <= outer.port + outer.count;

/** A host port that is asked for twice would be refused when it is bound, and then without a good reason. */
const refuseTwice = (ports: readonly PortRequest[]): void => {
  const seen = new Map<string, (Ip | undefined)[]>();
  for (const { protocol, hostAddress, hostPort, hostPortEnd = hostPort, count } of ports) {
    // Of a range with one port in the sandbox any is chosen.
    if (hostPort === undefined || hostPortEnd === undefined || (count === 1 && hostPortEnd > hostPort)) continue;
    for (let port = hostPort; port <= hostPortEnd; port++) {
      const key = `${protocol} ${port}`;
      const addresses = seen.get(key) ?? [];
      if (addresses.some((other) => bindingsOverlap(other, hostAddress))) {
        throw invalid(`host port ${port}/${protocol} is asked for twice`);
      }
      seen.set(key, [...addresses, hostAddress]);
    }
  }
};
