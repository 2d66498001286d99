import type { NetworkResource, SandboxResource, ServiceResource } from "../../api/resources.ts";
import { type Client, ClientError } from "../client.ts";
import { type Command, type CommandGroup, formatFlag, jsonText } from "../command.ts";
import { findSandbox, findService, splitService } from "../lookups.ts";
import { shortId, table } from "../table.ts";

const publish: Command = {
  name: "publish",
  operands: "SERVICE[.NETWORK]",
  count: [1, 1],
  brief: "Publish a service",
  summary: "Publish a new service on a network",
  flags: [
    { names: ["alias"], kind: "list", help: "Add alias to self" },
    { names: ["ip"], kind: "string", help: "IPv4 address, of the network's subnet" },
    { names: ["ip6"], kind: "string", help: "IPv6 address, of the network's subnet" },
    { names: ["mac-address"], kind: "string", help: "MAC address" },
    formatFlag,
  ],
  examples: ["dnet service publish db.backend", "dnet service publish --alias postgres --ip 10.50.1.7 db.backend"],
  async run({ client, print, json }, args) {
    const { service, network } = splitService(args.positional[0] ?? "");
    const addresses = [args.string("ip"), args.string("ip6")].filter((text) => text !== undefined);
    const id = await client.call<string>("POST", "/services", {
      name: service,
      my_aliases: args.list("alias"),
      network_name: network ?? "",
      ...(addresses.length > 0 && { ip_addresses: addresses }),
      ...(args.string("mac-address") !== undefined && { mac_address: args.string("mac-address") }),
    });
    print(json ? jsonText({ id }) : `${id}\n`);
  },
};

const unpublish: Command = {
  name: "unpublish",
  operands: "SERVICE[.NETWORK]",
  count: [1, 1],
  brief: "Remove a service",
  summary: "Removes a service",
  flags: [{ names: ["force", "f"], kind: "boolean", help: "force unpublish service" }],
  examples: ["dnet service unpublish db.backend", "dnet service unpublish -f db.backend"],
  async run({ client }, args) {
    const service = await findService(client, args.positional[0] ?? "");
    await client.call("DELETE", `/services/${service.id}`, { name: service.name, force: args.boolean("force") });
  },
};

/** @throws ClientError `cannot find sandbox for container: X` */
const sandboxOf = async (client: Client, container: string): Promise<SandboxResource> => {
  const sandbox = await findSandbox(client, container);
  if (!sandbox) throw new ClientError(`cannot find sandbox for container: ${container}`);
  return sandbox;
};

const attach: Command = {
  name: "attach",
  operands: "CONTAINER SERVICE[.NETWORK]",
  count: [2, 2],
  brief: "Attach a backend (container) to the service",
  summary: "Sets a container as a service backend",
  flags: [
    { names: ["alias"], kind: "list", help: "Add alias for another container: CONTAINER:ALIAS" },
    { names: ["gw-priority"], kind: "string", help: "The highest carries the container's default route (default 0)" },
  ],
  examples: ["dnet service attach c1 web.frontend", "dnet service attach --alias db:database c1 web.frontend"],
  async run({ client }, args) {
    const [container = "", name = ""] = args.positional;
    const sandbox = await sandboxOf(client, container);
    const service = await findService(client, name);
    const priority = args.string("gw-priority");
    if (priority !== undefined && !/^-?\d+$/.test(priority)) {
      throw new ClientError(`invalid value ${JSON.stringify(priority)} for flag --gw-priority: not an integer`);
    }
    await client.call("POST", `/services/${service.id}/backend`, {
      sandbox_id: sandbox.id,
      aliases: args.list("alias"),
      ...(priority !== undefined && { gateway_priority: Number(priority) }),
    });
  },
};

const detach: Command = {
  name: "detach",
  operands: "CONTAINER SERVICE",
  count: [2, 2],
  brief: "Detach the backend from the service",
  summary: "Removes a container from service backend",
  flags: [],
  examples: ["dnet service detach c1 web.frontend"],
  async run({ client }, args) {
    const [container = "", name = ""] = args.positional;
    const sandbox = await sandboxOf(client, container);
    const service = await findService(client, name);
    await client.call("DELETE", `/services/${service.id}/backend/${sandbox.id}`);
  },
};

/** The container and sandbox of a service; the original's daemon has to be asked for each. */
const withBackend = async (client: Client, service: ServiceResource): Promise<ServiceResource> => {
  if (service.network_id !== undefined) return service;
  const backend = await client.call<SandboxResource>("GET", `/services/${service.id}/backend`);
  return { ...service, container_id: backend.container_id, sandbox_id: backend.id };
};

const ls: Command = {
  name: "ls",
  operands: "",
  count: [0, 0],
  brief: "Lists all services",
  summary: "Lists all the services on a network",
  flags: [
    {
      names: ["network", "net"],
      kind: "string",
      help: "Only show the services that are published on the specified network",
    },
    { names: ["no-trunc"], kind: "boolean", help: "Do not truncate the output" },
    { names: ["quiet", "q"], kind: "boolean", help: "Only display numeric IDs" },
    formatFlag,
  ],
  examples: ["dnet service ls", "dnet service ls --network backend"],
  async run({ client, print, json }, args) {
    const network = args.string("network");
    const path = network === undefined ? "/services" : `/services?${new URLSearchParams({ network })}`;
    const found = (await client.call<readonly ServiceResource[] | null>("GET", path)) ?? [];
    const whole = args.boolean("no-trunc");
    if (args.boolean("quiet")) return print(found.map(({ id }) => `${shortId(id, whole)}\n`).join(""));
    const services = await Promise.all(found.map((service) => withBackend(client, service)));
    if (json) return print(jsonText(services));
    const rows = services.map(({ id, name, network: on, container_id = "", sandbox_id = "" }) => [
      shortId(id, whole),
      name,
      on,
      container_id,
      shortId(sandbox_id, whole),
    ]);
    print(table(["SERVICE ID", "NAME", "NETWORK", "CONTAINER", "SANDBOX"], rows));
  },
};

const info: Command = {
  name: "info",
  operands: "SERVICE[.NETWORK]",
  count: [1, 1],
  brief: "Display information about a service",
  summary: "Displays detailed information about a service",
  flags: [formatFlag],
  examples: ["dnet service info db.backend"],
  async run({ client, print, json }, args) {
    const service = await withBackend(client, await findService(client, args.positional[0] ?? ""));
    if (json) return print(jsonText(service));
    const network =
      service.network_id === undefined
        ? undefined
        : await client.call<NetworkResource>("GET", `/networks/${service.network_id}`);
    const gateways = (network?.subnets ?? []).flatMap(({ gateway }) => gateway ?? []);
    const lines: readonly (readonly [string, string | undefined])[] = [
      ["Name", service.name],
      ["Network", service.network],
      ["Addresses", service.addresses?.join(" ")],
      ["MAC address", service.mac_address],
      ["Gateway", gateways.join(" ")],
      ["Aliases", service.aliases?.join(" ")],
      ["Container", service.container_id],
      ["Sandbox", service.sandbox_id],
      ["Interface", service.interface],
      ["Node", service.node && `${service.node.name} (${service.node.state})`],
    ];
    const shown = lines.filter(([, value]) => value !== undefined && value !== "");
    print(`Service Id: ${service.id}\n${shown.map(([name, value]) => `\t${name}: ${value}\n`).join("")}`);
  },
};

export const serviceGroup: CommandGroup = {
  name: "service",
  summary: "service management commands",
  commands: [publish, unpublish, attach, detach, ls, info],
};
