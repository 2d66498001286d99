import {
  type FlowMatch,
  hostNamespace,
  type LinkChange,
  type LinkSpec,
  type NamespaceRef,
  type Operation,
  type RouteSpec,
} from "./plan.ts";
import { redirectScript } from "./redirect.ts";

/** The command a person would type for an operation: what the debug log and `dnet explain` show. */

const quote = (text: string): string =>
  /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;

const inside = (namespace: NamespaceRef, command: string): string =>
  namespace === hostNamespace ? command : `nsenter --net=${quote(namespace)} ${command}`;

const words = (...parts: readonly (string | undefined | false)[]): string =>
  parts.filter((part) => part !== undefined && part !== false && part !== "").join(" ");

/** `netns` of ip-link(8) takes a path too; 1 is the host's first process. */
const namespaceWord = (namespace: NamespaceRef): string => (namespace === hostNamespace ? "1" : quote(namespace));

const onOff = (name: string, value: boolean | undefined): string | undefined =>
  value === undefined ? undefined : value ? name : `no${name}`;

const kindWords = (link: LinkSpec): string => {
  switch (link.kind) {
    case "dummy":
      return "type dummy";
    case "bridge":
      return words(
        "type bridge",
        link.stp !== undefined && `stp_state ${Number(link.stp)}`,
        link.vlanFiltering !== undefined && `vlan_filtering ${Number(link.vlanFiltering)}`,
        link.multicastSnooping !== undefined && `mcast_snooping ${Number(link.multicastSnooping)}`,
      );
    case "veth":
      return words(
        `type veth peer name ${link.peer.name}`,
        link.peer.mtu !== undefined && `mtu ${link.peer.mtu}`,
        link.peer.mac !== undefined && `address ${link.peer.mac}`,
        `netns ${namespaceWord(link.peer.namespace)}`,
      );
    case "vxlan":
      return words(
        `type vxlan id ${link.vni} dstport ${link.port}`,
        link.local !== undefined && `local ${link.local}`,
        onOff("learning", link.learning),
        onOff("proxy", link.proxy),
        onOff("l2miss", link.l2miss),
        onOff("l3miss", link.l3miss),
      );
    case "macvlan":
    case "ipvlan":
      return `type ${link.kind} mode ${link.mode}`;
  }
};

/** A VXLAN device is made where its packets leave and put where it is used. */
const birthplace = (namespace: NamespaceRef, link: LinkSpec): NamespaceRef =>
  link.kind === "vxlan" ? (link.underlay ?? namespace) : namespace;

const linkAdd = (namespace: NamespaceRef, link: LinkSpec): readonly string[] => {
  const parent = link.kind === "macvlan" || link.kind === "ipvlan" ? link.parent : undefined;
  const born = birthplace(namespace, link);
  return [
    words(
      inside(born, `ip link add name ${link.name}`),
      born !== namespace && `netns ${namespaceWord(namespace)}`,
      parent !== undefined && `link ${parent}`,
      link.mtu !== undefined && `mtu ${link.mtu}`,
      link.mac !== undefined && `address ${link.mac}`,
      link.group !== undefined && `group ${link.group}`,
      kindWords(link),
    ),
    ...settings(link).map((line) => inside(namespace, line)),
  ];
};

const settings = (link: LinkSpec): readonly string[] => {
  const { name, alias, master, bridgePort } = link;
  const up = link.up ? { up: true } : {};
  const change = { ...(master !== undefined && { master }), ...(alias !== undefined && { alias }) };
  if (bridgePort === undefined) return linkSet(name, { ...change, ...up });
  const port = words(
    `ip link set dev ${name} type bridge_slave`,
    bridgePort.hairpin !== undefined && `hairpin ${bridgePort.hairpin ? "on" : "off"}`,
    bridgePort.learning !== undefined && `learning ${bridgePort.learning ? "on" : "off"}`,
    bridgePort.flood !== undefined && `flood ${bridgePort.flood ? "on" : "off"}`,
    bridgePort.isolated !== undefined && `isolated ${bridgePort.isolated ? "on" : "off"}`,
  );
  return [...linkSet(name, change), port, ...linkSet(name, up)];
};

const linkSet = (name: string, set: LinkChange): readonly string[] => {
  const changes = words(
    set.up !== undefined && (set.up ? "up" : "down"),
    set.mtu !== undefined && `mtu ${set.mtu}`,
    set.mac !== undefined && `address ${set.mac}`,
    set.master !== undefined && (set.master === "" ? "nomaster" : `master ${set.master}`),
    set.alias !== undefined && `alias ${quote(set.alias)}`,
    set.name !== undefined && `name ${set.name}`,
  );
  return [
    ...(changes === "" ? [] : [`ip link set dev ${name} ${changes}`]),
    ...(set.hairpin === undefined ? [] : [`bridge link set dev ${name} hairpin ${set.hairpin ? "on" : "off"}`]),
  ];
};

const routeWords = (route: RouteSpec): string =>
  words(
    route.to.endsWith("/0") ? "default" : route.to,
    route.via !== undefined && `via ${route.via}`,
    route.device !== undefined && `dev ${route.device}`,
    route.metric !== undefined && `metric ${route.metric}`,
    route.source !== undefined && `src ${route.source}`,
    route.onLink && "scope link",
    "proto 215",
  );

const ipFor = (address: string): string => (address.includes(":") ? "ip -6" : "ip");

/** conntrack(8) knows no ranges. Without an address it takes flows in transit too, which the operation leaves alone. */
const flowDeletion = (namespace: NamespaceRef, { protocol, family, address, port, count }: FlowMatch): string => {
  const to = address === undefined ? "" : ` --orig-dst ${address}`;
  const line = inside(namespace, `conntrack -D -f ipv${family} -p ${protocol}${to} --orig-port-dst`);
  return count === 1 ? `${line} ${port}` : `for port in $(seq ${port} ${port + count - 1}); do ${line} "$port"; done`;
};

const commands = (operation: Operation): readonly string[] => {
  switch (operation.op) {
    case "namespace.add": {
      const path = quote(operation.path);
      const make =
        operation.of === undefined
          ? `unshare --net=${path} ip link set lo up${operation.alias === undefined ? "" : ` alias ${quote(operation.alias)}`}`
          : `mount --bind ${operation.of === hostNamespace ? "/proc/1/ns/net" : quote(operation.of)} ${path}`;
      return [`touch ${path}`, make];
    }
    case "namespace.delete":
      return [`umount -l ${quote(operation.path)}`, `rm ${quote(operation.path)}`];
    case "link.add":
      return linkAdd(operation.namespace, operation.link);
    case "link.delete":
      return [inside(operation.namespace, `ip link delete dev ${operation.name}`)];
    case "link.set":
      return linkSet(operation.name, operation.set).map((line) => inside(operation.namespace, line));
    case "address.add":
    case "address.delete": {
      const add = operation.op === "address.add";
      const six = operation.address.includes(":");
      const line = words(
        `${ipFor(operation.address)} address ${add ? "add" : "delete"} ${operation.address}`,
        add && !six && "broadcast +",
        `dev ${operation.device}`,
        operation.op === "address.add" && six && operation.nodad && "nodad",
      );
      return [inside(operation.namespace, line)];
    }
    case "route.add":
    case "route.delete": {
      const verb = operation.op === "route.add" ? "add" : "delete";
      return [inside(operation.namespace, `${ipFor(operation.route.to)} route ${verb} ${routeWords(operation.route)}`)];
    }
    case "rule.add":
    case "rule.delete": {
      const { from, to, priority, table } = operation.rule;
      const line = words(
        `${ipFor(from ?? to ?? "")} rule ${operation.op === "rule.add" ? "add" : "delete"} priority ${priority}`,
        from !== undefined && `from ${from}`,
        to !== undefined && `to ${to}`,
        `table ${table} protocol 215`,
      );
      return [inside(operation.namespace, line)];
    }
    case "neighbor.add":
    case "neighbor.delete": {
      const verb = operation.op === "neighbor.add" ? "replace" : "delete";
      const tail = operation.op === "neighbor.add" ? ` lladdr ${operation.mac} nud permanent` : "";
      const line = `${ipFor(operation.ip)} neighbor ${verb} ${operation.ip}${tail} dev ${operation.device}`;
      return [inside(operation.namespace, line)];
    }
    case "fdb.add":
    case "fdb.delete": {
      const verb = operation.op === "fdb.delete" ? "delete" : isZero(operation.mac) ? "append" : "replace";
      const where =
        operation.destination === undefined ? "master static" : `dst ${operation.destination} self permanent`;
      const line = `bridge fdb ${verb} ${operation.mac} dev ${operation.device} ${where}`;
      return [inside(operation.namespace, line)];
    }
    case "sysctl.set":
      return [inside(operation.namespace, `sysctl -w ${operation.key}=${quote(operation.value)}`)];
    case "nft.apply":
    case "nft.redirect": {
      const script = operation.op === "nft.apply" ? operation.script : redirectScript(operation.redirect);
      return [`${inside(operation.namespace, "nft -f -")} <<'EOF'\n${script.trimEnd()}\nEOF`];
    }
    case "conntrack.flush":
      return operation.flows.map((flow) => flowDeletion(operation.namespace, flow));
  }
};

/** All zero: the entry of a VXLAN device for what it floods. */
export const isZero = (mac: string): boolean => mac === "00:00:00:00:00:00";

/** The equivalent shell commands, one a line. */
export const describe = (operation: Operation): string => commands(operation).join("\n");

/** The same on one line, for errors and logs; a long nft batch is cut. */
export const describeShort = (operation: Operation): string => {
  const line = describe(operation).replaceAll("\n", " ; ");
  return line.length > 400 ? `${line.slice(0, 400)}...` : line;
};
