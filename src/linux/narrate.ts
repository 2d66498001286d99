import type { LinkSpec, NamespaceRef, Operation } from "./plan.ts";
import { hostNamespace } from "./plan.ts";

/** What an operation makes, in a few words: the heading over its command. */

const place = (namespace: NamespaceRef): string =>
  namespace === hostNamespace ? "on the host" : `in namespace ${namespace.slice(namespace.lastIndexOf("/") + 1)}`;

const portOf = ({ master }: LinkSpec): string => (master === undefined ? "" : ` (port of bridge ${master})`);

const linkText = (link: LinkSpec): string => {
  switch (link.kind) {
    case "bridge":
      return `bridge ${link.name}`;
    case "veth":
      return `veth pair: ${link.peer.name} ${place(link.peer.namespace)}, and ${link.name}${portOf(link)}`;
    case "vxlan":
      return `VXLAN device ${link.name} with VNI ${link.vni}${portOf(link)}`;
    case "macvlan":
    case "ipvlan":
      return `${link.kind} ${link.name} on ${link.parent}`;
    case "dummy":
      return `dummy device ${link.name}`;
  }
};

const what = (operation: Exclude<Operation, { op: "namespace.add" | "namespace.delete" }>): string => {
  switch (operation.op) {
    case "link.add":
      return linkText(operation.link);
    case "link.delete":
      return `no link ${operation.name}`;
    case "link.set":
      return operation.set.up === true && Object.keys(operation.set).length === 1
        ? `${operation.name} is up`
        : `settings of ${operation.name}`;
    case "address.add":
    case "address.delete":
      return `address ${operation.address} of ${operation.device}`;
    case "route.add":
    case "route.delete":
      return `${operation.route.to.endsWith("/0") ? "default route" : `route to ${operation.route.to}`}`;
    case "rule.add":
    case "rule.delete":
      return `routing rule ${operation.rule.priority}`;
    case "neighbor.add":
    case "neighbor.delete":
      return `neighbour ${operation.ip} at ${operation.mac}`;
    case "fdb.add":
    case "fdb.delete":
      return operation.destination === undefined
        ? `${operation.mac} is behind ${operation.device}`
        : `frames for ${operation.mac} go to host ${operation.destination}`;
    case "sysctl.set":
      return `setting ${operation.key}`;
    case "nft.apply":
      return "packet filter";
    case "conntrack.flush":
      return "tracked flows to ports of the host are forgotten";
    case "nft.redirect":
      return "redirect of port 53 to the resolver";
  }
};

export const narrate = (operation: Operation): string =>
  operation.op === "namespace.add" || operation.op === "namespace.delete"
    ? `namespace ${operation.path}`
    : `${what(operation)} ${place(operation.namespace)}`;
