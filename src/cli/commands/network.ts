import type { NetworkResource, ServiceResource } from "../../api/resources.ts";
import { type Command, type CommandGroup, formatFlag, jsonText, pairs } from "../command.ts";
import { UsageError } from "../flags.ts";
import { findNetwork } from "../lookups.ts";
import { shortId, table } from "../table.ts";

const create: Command = {
  name: "create",
  operands: "NETWORK-NAME",
  count: [1, 1],
  brief: "Create a network",
  summary: "Creates a new network with a name specified by the user",
  flags: [
    { names: ["driver", "d"], kind: "string", help: "Driver to manage the Network" },
    { names: ["id"], kind: "string", help: "Network ID string" },
    { names: ["internal"], kind: "boolean", help: "Config the network to be internal" },
    { names: ["ip-range"], kind: "list", help: "Range option: endpoints get their addresses from this part" },
    {
      names: ["ipv4"],
      kind: "boolean",
      help: "Enable IPv4 on the network: --ipv4=false for IPv6 alone",
      standard: "true",
    },
    { names: ["ipv6"], kind: "boolean", help: "Enable IPv6 on the network" },
    { names: ["opt", "o"], kind: "list", help: "Network options: NAME=VALUE[,NAME=VALUE]" },
    { names: ["subnet"], kind: "list", help: "Subnet option, in CIDR form; once for each family" },
    { names: ["gateway"], kind: "list", help: "Address of the gateway; the first of the subnet without it" },
    { names: ["aux-address"], kind: "list", help: "Addresses that no endpoint gets: NAME=ADDRESS" },
    { names: ["label"], kind: "list", help: "Labels: NAME=VALUE" },
    formatFlag,
  ],
  examples: [
    "dnet network create web",
    "dnet network create -d bridge --subnet 10.50.0.0/16 --ip-range 10.50.1.0/24 db",
    "dnet network create --internal -o com.docker.network.driver.mtu=1400 backend",
    // Without a shared store, on each host with an --ip-range of its own.
    "dnet network create -d overlay --id=$ID --subnet 10.9.0.0/16 --ip-range 10.9.1.0/24 -o com.docker.network.driver.overlay.vxlanid_list=700 multihost",
  ],
  async run({ client, print, json }, args) {
    const subnets = args.list("subnet");
    const ranges = args.list("ip-range");
    const gateways = args.list("gateway");
    const auxiliary = pairs(args.list("aux-address"), "aux-address");
    const six = (text: string) => text.includes(":");
    const of = (texts: readonly string[], family: boolean) => texts.filter((text) => six(text) === family);
    const configuration = (family: boolean) => {
      const [pools, parts, ways] = [of(subnets, family), of(ranges, family), of(gateways, family)];
      const aux = Object.fromEntries(Object.entries(auxiliary).filter(([, address]) => six(address) === family));
      return Array.from({ length: Math.max(pools.length, parts.length, ways.length) }, (_, n) => ({
        ...(pools[n] !== undefined && { PreferredPool: pools[n] }),
        ...(parts[n] !== undefined && { SubPool: parts[n] }),
        ...(ways[n] !== undefined && { Gateway: ways[n] }),
        ...(n === 0 && Object.keys(aux).length > 0 && { AuxAddresses: aux }),
      }));
    };
    const [four, sixth] = [configuration(false), configuration(true)];
    const networkOptions = {
      ...(args.boolean("internal") && { "com.docker.network.internal": "true" }),
      ...(args.string("ipv4") !== undefined && !args.boolean("ipv4") && { "com.docker.network.enable_ipv4": "false" }),
      ...(args.boolean("ipv6") && { "com.docker.network.enable_ipv6": "true" }),
    };
    const id = await client.call<string>("POST", "/networks", {
      name: args.positional[0],
      ...(args.string("id") !== undefined && { id: args.string("id") }),
      network_type: args.string("driver") ?? "",
      ...(four.length > 0 && { ipv4_configuration: four }),
      ...(sixth.length > 0 && { ipv6_configuration: sixth }),
      driver_opts: pairs(args.list("opt"), "opt"),
      network_opts: networkOptions,
      ...(args.list("label").length > 0 && { labels: pairs(args.list("label"), "label") }),
    });
    print(json ? jsonText({ id }) : `${id}\n`);
  },
};

const rm: Command = {
  name: "rm",
  operands: "NETWORK",
  count: [1, 1],
  brief: "Remove a network",
  summary: "Deletes a network",
  flags: [],
  examples: ["dnet network rm web", "dnet network rm 3f2a91"],
  async run({ client }, args) {
    const network = await findNetwork(client, args.positional[0] ?? "");
    await client.call("DELETE", `/networks/${network.id}`);
  },
};

const ls: Command = {
  name: "ls",
  operands: "",
  count: [0, 0],
  brief: "List all networks",
  summary: "Lists all the networks created by the user",
  flags: [
    { names: ["latest", "l"], kind: "boolean", help: "Show the latest network created" },
    { names: ["n"], kind: "string", help: "Show n last created networks", standard: "-1" },
    { names: ["no-trunc"], kind: "boolean", help: "Do not truncate the output" },
    { names: ["quiet", "q"], kind: "boolean", help: "Only display numeric IDs" },
    formatFlag,
  ],
  examples: ["dnet network ls", "dnet network ls -n 3 --no-trunc"],
  async run({ client, print, json }, args) {
    const all = (await client.call<readonly NetworkResource[] | null>("GET", "/networks")) ?? [];
    const networks = latest(all, args.boolean("latest") ? "1" : args.string("n"));
    const whole = args.boolean("no-trunc");
    if (json) print(jsonText(networks));
    else if (args.boolean("quiet")) print(networks.map(({ id }) => `${shortId(id, whole)}\n`).join(""));
    else {
      const rows = networks.map(({ id, name, type }) => [shortId(id, whole), name, type]);
      print(table(["NETWORK ID", "NAME", "TYPE"], rows, true));
    }
  },
};

/** The last created, newest first; all in the daemon's order without a number. */
const latest = (networks: readonly NetworkResource[], count: string | undefined): readonly NetworkResource[] => {
  if (count === undefined || count === "-1") return networks;
  const number = Number(count);
  if (!/^\d+$/.test(count)) throw new UsageError(`invalid value ${JSON.stringify(count)} for flag -n: not a number`);
  const byAge = [...networks].sort((a, b) => ((a.created ?? "") < (b.created ?? "") ? 1 : -1));
  return byAge.slice(0, number);
};

const info: Command = {
  name: "info",
  operands: "NETWORK",
  count: [1, 1],
  brief: "Display information of a network",
  summary: "Displays detailed information on a network",
  flags: [formatFlag],
  examples: ["dnet network info web", "dnet network info web --format json"],
  async run({ client, print, json }, args) {
    const { id } = await findNetwork(client, args.positional[0] ?? "");
    const network = await client.call<NetworkResource>("GET", `/networks/${id}`);
    const endpoints = (await client.call<readonly ServiceResource[] | null>("GET", `/networks/${id}/endpoints`)) ?? [];
    if (json) return print(jsonText({ ...network, endpoints }));
    const options = Object.entries(network.options ?? {}).map(([name, value]) => `\t${name}=${value}\n`);
    const peers = endpoints.map(({ name, addresses = [], mac_address = "", container_id = "" }) =>
      `\t${name}  ${addresses.join(" ")}  ${mac_address}  ${container_id}`.trimEnd().concat("\n"),
    );
    print(
      [
        `Network Id: ${network.id}\nName: ${network.name}\nType: ${network.type}\n`,
        network.scope === undefined ? "" : `Scope: ${network.scope}\n`,
        network.internal ? "Internal: true\n" : "",
        ...(network.subnets ?? []).map(
          ({ subnet, ip_range, gateway, vni }) =>
            `Subnet: ${subnet}${ip_range ? ` (endpoints from ${ip_range})` : ""}\n${gateway ? `Gateway: ${gateway}\n` : ""}${vni === undefined ? "" : `VXLAN id: ${vni}\n`}`,
        ),
        ...(options.length > 0 ? ["Options:\n", ...options] : []),
        ...(peers.length > 0 ? ["Endpoints:\n", ...peers] : []),
      ].join(""),
    );
  },
};

export const networkGroup: CommandGroup = {
  name: "network",
  summary: "network management commands",
  commands: [create, rm, ls, info],
};
