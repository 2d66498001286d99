import { type ParsedPort, parseExpose, parsePublish } from "../../api/port-syntax.ts";
import type { SandboxResource, ServiceResource } from "../../api/resources.ts";
import { NetworkError } from "../../errors.ts";
import { ClientError } from "../client.ts";
import { type Command, type CommandGroup, formatFlag, jsonText } from "../command.ts";
import { UsageError } from "../flags.ts";
import { findSandbox } from "../lookups.ts";
import { shortId, table } from "../table.ts";

const missing = "Please provide container id argument";

/** Puts the original's words before an error of the daemon. */
const during = async <T>(words: string, work: Promise<T>): Promise<T> => {
  try {
    return await work;
  } catch (error) {
    throw error instanceof ClientError ? new ClientError(`${words}: ${error.message}`, error.status) : error;
  }
};

const extraHost = (text: string): { readonly name: string; readonly address: string } => {
  const at = text.indexOf(":");
  if (at < 1)
    throw new UsageError(`invalid value ${JSON.stringify(text)} for flag --add-host: it has the form NAME:ADDRESS`);
  return { name: text.slice(0, at), address: text.slice(at + 1) };
};

const parsed = (parse: (text: string) => ParsedPort, text: string): ParsedPort => {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error;
    throw new UsageError(error.hint === undefined ? error.message : `${error.message}\n${error.hint}`);
  }
};

/** in.h: IPPROTO_* */
const protocolNumber: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132 };

/** In the original's form; its daemon knows no ranges of container ports. */
const portMapping = ({ protocol, hostAddress, hostPort, hostPortEnd, port, portEnd }: ParsedPort) => ({
  Proto: protocolNumber[protocol],
  Port: port,
  ...(portEnd !== port && { PortEnd: portEnd }),
  ...(hostAddress !== undefined && { HostIP: hostAddress }),
  ...(hostPort !== undefined && { HostPort: hostPort, HostPortEnd: hostPortEnd }),
});

const create: Command = {
  name: "create",
  operands: "CONTAINER",
  count: [1, 1],
  missing,
  brief: "Create a container",
  summary: "Creates a sandbox: a network namespace with its own interfaces, routes and names",
  flags: [
    { names: ["hostname"], kind: "string", help: "Host name in the hosts file; the container's name without it" },
    { names: ["domainname"], kind: "string", help: "Domain name in the hosts file" },
    { names: ["dns"], kind: "list", help: "DNS server for names that are not ours, in place of the host's" },
    { names: ["dns-search"], kind: "list", help: "Search domain in place of the host's" },
    { names: ["dns-option"], kind: "list", help: "Option of resolv.conf" },
    { names: ["add-host"], kind: "list", help: "Line for the hosts file: NAME:ADDRESS" },
    { names: ["host"], kind: "boolean", help: "Use the host's own network stack" },
    {
      names: ["publish", "p"],
      kind: "list",
      help: "Publish ports: [ip:][host[-host]:]container[-container][/protocol]",
    },
    { names: ["publish-all", "P"], kind: "boolean", help: "Publish all exposed ports on ports of the host's choice" },
    { names: ["expose"], kind: "list", help: "Expose ports: container[-container][/protocol]" },
    formatFlag,
  ],
  examples: [
    "dnet container create c1",
    "dnet container create --hostname web --dns 9.9.9.9 c2",
    "dnet container create -p 8080:80 -p 127.0.0.1:5353:53/udp c3",
    "dnet container create -p 9000-9010:9000-9010 -p 80 c4",
  ],
  async run({ client, print, json }, args) {
    const hosts = args.list("add-host").map(extraHost);
    const mappings = args.list("publish").map((text) => portMapping(parsed(parsePublish, text)));
    const exposed = args.list("expose").map((text) => portMapping(parsed(parseExpose, text)));
    const id = await during(
      "POST failed during create container",
      client.call<string>("POST", "/sandboxes", {
        container_id: args.positional[0],
        ...(args.string("hostname") !== undefined && { host_name: args.string("hostname") }),
        ...(args.string("domainname") !== undefined && { domain_name: args.string("domainname") }),
        ...(args.list("dns").length > 0 && { dns: args.list("dns") }),
        ...(args.list("dns-search").length > 0 && { dns_search: args.list("dns-search") }),
        ...(args.list("dns-option").length > 0 && { dns_options: args.list("dns-option") }),
        ...(hosts.length > 0 && { extra_hosts: hosts }),
        ...(mappings.length > 0 && { port_mapping: mappings }),
        ...(exposed.length > 0 && { exposed_ports: exposed }),
        ...(args.boolean("publish-all") && { publish_all: true }),
        ...(args.boolean("host") && { use_default_sandbox: true }),
      }),
    );
    print(json ? jsonText({ id }) : `${id}\n`);
  },
};

const rm: Command = {
  name: "rm",
  operands: "CONTAINER",
  count: [1, 1],
  missing,
  brief: "Remove a container",
  summary: "Removes a sandbox and the services attached to it",
  flags: [],
  examples: ["dnet container rm c1"],
  async run({ client }, args) {
    const container = args.positional[0] ?? "";
    const sandbox = await during("GET failed during container id lookup", findSandbox(client, container));
    if (!sandbox) throw new ClientError(`No sandbox for container ${container} found`);
    await during("DELETE of sandbox failed", client.call("DELETE", `/sandboxes/${sandbox.id}`));
  },
};

const ls: Command = {
  name: "ls",
  operands: "",
  count: [0, 0],
  brief: "List all containers",
  summary: "Lists all sandboxes and the services attached to them",
  flags: [
    { names: ["no-trunc"], kind: "boolean", help: "Do not truncate the output" },
    { names: ["quiet", "q"], kind: "boolean", help: "Only display sandbox IDs" },
    formatFlag,
  ],
  examples: ["dnet container ls"],
  async run({ client, print, json }, args) {
    const sandboxes = (await client.call<readonly SandboxResource[] | null>("GET", "/sandboxes")) ?? [];
    const whole = args.boolean("no-trunc");
    if (json) return print(jsonText(sandboxes));
    if (args.boolean("quiet")) return print(sandboxes.map(({ id }) => `${shortId(id, whole)}\n`).join(""));
    const services = (await client.call<readonly ServiceResource[] | null>("GET", "/services")) ?? [];
    const rows = sandboxes.map(({ id, container_id, published_ports = [] }) => [
      shortId(id, whole),
      container_id,
      services
        .filter(({ sandbox_id }) => sandbox_id === id)
        .map(({ name, network }) => `${name}.${network}`)
        .join(" "),
      published_ports.map(({ text }) => text).join(", "),
    ]);
    print(table(["SANDBOX ID", "CONTAINER", "SERVICES", "PORTS"], rows));
  },
};

/** Ports that lead here; those that were asked for where none does, as no network of the container is reached by NAT. */
const portLines = ({ published_ports = [], ports = [] }: SandboxResource): readonly string[] => {
  if (published_ports.length > 0) return ["Ports:\n", ...published_ports.map(({ text }) => `\t${text}\n`)];
  return ports.length > 0
    ? ["Ports (not published: no network that leads outside):\n", ...ports.map((text) => `\t${text}\n`)]
    : [];
};

const info: Command = {
  name: "info",
  operands: "CONTAINER",
  count: [1, 1],
  missing,
  brief: "Display information about a container",
  summary: "Displays a sandbox: its namespace, its interfaces, what they are attached to",
  flags: [formatFlag],
  examples: ["dnet container info c1"],
  async run({ client, print, json }, args) {
    const container = args.positional[0] ?? "";
    const sandbox = await findSandbox(client, container);
    if (!sandbox) throw new ClientError(`No sandbox for container ${container} found`);
    const all = (await client.call<readonly ServiceResource[] | null>("GET", "/services")) ?? [];
    const services = all.filter(({ sandbox_id }) => sandbox_id === sandbox.id);
    if (json) return print(jsonText({ ...sandbox, services }));
    const lines = services.map(({ name, network, addresses = [], mac_address = "", interface: device = "" }) =>
      `\t${device}  ${name}.${network}  ${addresses.join(" ")}  ${mac_address}`.trimEnd().concat("\n"),
    );
    print(
      [
        `Sandbox Id: ${sandbox.id}\nContainer: ${sandbox.container_id}\nNamespace: ${sandbox.key}\n`,
        sandbox.host_name ? `Host name: ${sandbox.host_name}\n` : "",
        ...(lines.length > 0 ? ["Interfaces:\n", ...lines] : []),
        ...portLines(sandbox),
        `Enter it: nsenter --net=${sandbox.key} ip addr\n`,
      ].join(""),
    );
  },
};

export const containerGroup: CommandGroup = {
  name: "container",
  summary: "Container management commands",
  commands: [create, rm, ls, info],
};
