import type { Family, Ip } from "../net/ip.ts";
import type { Mac } from "../net/mac.ts";
import type { InterfaceAddress, Prefix } from "../net/prefix.ts";
import { type Redirect, redirectScript } from "./redirect.ts";

/**
 * A plan: frozen kernel operations as plain data. Drivers compute plans; `executor.ts` applies them, undoes them in
 * reverse when one fails, and `describe.ts` prints each as the `ip`, `bridge`, `nft` or `sysctl` command that does the same.
 */

/** A network namespace: the path of its bind mount, or the host's own. */
export type NamespaceRef = string;
export const hostNamespace: NamespaceRef = "host";

interface LinkCommon {
  readonly name: string;
  /** Bytes. */
  readonly mtu?: number;
  readonly mac?: Mac;
  /** Our mark, `dnet:<id>`; reconcile touches only links that carry it. */
  readonly alias?: string;
  /** Name of the bridge that the link is a port of. */
  readonly master?: string;
  /** How it behaves as a port of that bridge; set before it is up. */
  readonly bridgePort?: BridgePort;
  /** Set administratively up once it exists. */
  readonly up?: boolean;
  /** Link group (rtnetlink IFLA_GROUP). */
  readonly group?: number;
}

export interface BridgePort {
  /** The bridge learns from frames that arrive here where their senders are. */
  readonly learning?: boolean;
  /** Frames for addresses that the bridge does not know leave here too. */
  readonly flood?: boolean;
  /** Frames may leave by the port that they came in by. */
  readonly hairpin?: boolean;
  /** It reaches no other port that is isolated too. */
  readonly isolated?: boolean;
}

export type LinkSpec =
  | (LinkCommon & {
      readonly kind: "bridge";
      readonly vlanFiltering?: boolean;
      readonly stp?: boolean;
      /** False: multicast goes to every port, whoever asked for it. */
      readonly multicastSnooping?: boolean;
    })
  | (LinkCommon & {
      readonly kind: "veth";
      /** The other end, made in the same request, directly in its namespace. */
      readonly peer: {
        readonly name: string;
        readonly namespace: NamespaceRef;
        readonly mac?: Mac;
        readonly mtu?: number;
      };
    })
  | (LinkCommon & {
      readonly kind: "vxlan";
      /** The namespace whose stack carries the encapsulated packets, where it is not the link's own. */
      readonly underlay?: NamespaceRef;
      readonly vni: number;
      readonly port: number;
      readonly local?: Ip;
      readonly proxy?: boolean;
      readonly l2miss?: boolean;
      readonly l3miss?: boolean;
      readonly learning?: boolean;
    })
  | (LinkCommon & {
      readonly kind: "macvlan";
      readonly parent: string;
      readonly mode: "private" | "vepa" | "bridge" | "passthru";
    })
  | (LinkCommon & { readonly kind: "ipvlan"; readonly parent: string; readonly mode: "l2" | "l3" | "l3s" })
  | (LinkCommon & { readonly kind: "dummy" });

export type Operation =
  /** A new namespace with its loopback up, and with this alias, by which it is known; with `of`, another path of an existing one. */
  | { readonly op: "namespace.add"; readonly path: string; readonly of?: NamespaceRef; readonly alias?: string }
  | { readonly op: "namespace.delete"; readonly path: string }
  | { readonly op: "link.add"; readonly namespace: NamespaceRef; readonly link: LinkSpec }
  | {
      readonly op: "link.delete";
      readonly namespace: NamespaceRef;
      readonly name: string;
      /** A link of that name with another alias is somebody else's and stays. */
      readonly alias?: string;
      /** Restores the link when the plan is undone; without it the deletion has no inverse. */
      readonly link?: LinkSpec;
    }
  | {
      readonly op: "link.set";
      readonly namespace: NamespaceRef;
      readonly name: string;
      readonly set: LinkChange;
      /** Also where it is so already: to be told once more makes the kernel tell others. */
      readonly again?: boolean;
      /** The values before, for the inverse. */
      readonly was?: LinkChange;
    }
  | {
      readonly op: "address.add";
      readonly namespace: NamespaceRef;
      readonly device: string;
      readonly address: InterfaceAddress;
      readonly nodad?: boolean;
    }
  | {
      readonly op: "address.delete";
      readonly namespace: NamespaceRef;
      readonly device: string;
      readonly address: InterfaceAddress;
    }
  | { readonly op: "route.add"; readonly namespace: NamespaceRef; readonly route: RouteSpec }
  | { readonly op: "route.delete"; readonly namespace: NamespaceRef; readonly route: RouteSpec }
  | { readonly op: "rule.add"; readonly namespace: NamespaceRef; readonly rule: RuleSpec }
  | { readonly op: "rule.delete"; readonly namespace: NamespaceRef; readonly rule: RuleSpec }
  | {
      readonly op: "neighbor.add";
      readonly namespace: NamespaceRef;
      readonly device: string;
      readonly ip: Ip;
      readonly mac: Mac;
    }
  | {
      readonly op: "neighbor.delete";
      readonly namespace: NamespaceRef;
      readonly device: string;
      readonly ip: Ip;
      readonly mac: Mac;
    }
  | {
      readonly op: "fdb.add";
      readonly namespace: NamespaceRef;
      readonly device: string;
      readonly mac: Mac;
      /** Where a VXLAN device sends frames for this address; without it, the entry is the bridge's whose port the device is. */
      readonly destination?: Ip;
    }
  | {
      readonly op: "fdb.delete";
      readonly namespace: NamespaceRef;
      readonly device: string;
      readonly mac: Mac;
      /** Where a VXLAN device sends frames for this address; without it, the entry is the bridge's whose port the device is. */
      readonly destination?: Ip;
    }
  /** `key` in dots-and-slashes form below /proc/sys: `net/ipv4/ip_forward`. `was` is the value that undo restores. */
  | {
      readonly op: "sysctl.set";
      readonly namespace: NamespaceRef;
      readonly key: string;
      readonly value: string;
      readonly was?: string;
    }
  /** One atomic nft batch; `undo` is the batch that takes it back. */
  | { readonly op: "nft.apply"; readonly namespace: NamespaceRef; readonly script: string; readonly undo?: string }
  /** The same for a redirect, without the program nft. */
  | { readonly op: "nft.redirect"; readonly namespace: NamespaceRef; readonly redirect: Redirect }
  /** Connection tracking forgets flows: the next packet of each meets the rules as they are now. */
  | { readonly op: "conntrack.flush"; readonly namespace: NamespaceRef; readonly flows: readonly FlowMatch[] };

/** Flows that came to ports of the host, whatever they were led to. */
export interface FlowMatch {
  readonly protocol: "tcp" | "udp" | "sctp";
  readonly family: Family;
  /** The address they were sent to; any address of the host where absent. */
  readonly address?: Ip;
  /** The first of `count` ports. */
  readonly port: number;
  readonly count: number;
  /** What the first of the ports should lead to, and each other as far behind it: flows that do stay. */
  readonly unless?: { readonly address: Ip; readonly port: number };
}

export interface LinkChange {
  readonly up?: boolean;
  readonly mtu?: number;
  readonly mac?: Mac;
  /** Name of the bridge, or an empty string for none. */
  readonly master?: string;
  readonly alias?: string;
  readonly name?: string;
  /** A port of a bridge: frames may leave by it that came by it. */
  readonly hairpin?: boolean;
}

export interface RouteSpec {
  /** `0.0.0.0/0` and `::/0` are the default routes. */
  readonly to: Prefix;
  readonly via?: Ip;
  readonly device?: string;
  readonly metric?: number;
  readonly source?: Ip;
  /** Link scope: the destination is on the device. */
  readonly onLink?: boolean;
}

export interface RuleSpec {
  readonly priority: number;
  readonly table: number;
  readonly from?: Prefix;
  readonly to?: Prefix;
}

export type Plan = readonly Operation[];

/** Freezes operations into a plan. */
export const plan = (...operations: readonly (Operation | Plan)[]): Plan =>
  Object.freeze(operations.flat().map(freeze));

const freeze = (operation: Operation): Operation => Object.freeze(operation);

/** The operation that takes this one back, or undefined where nothing can (a deletion that kept no description). */
export const inverse = (operation: Operation): Operation | undefined => {
  switch (operation.op) {
    case "namespace.add":
      return { op: "namespace.delete", path: operation.path };
    case "namespace.delete":
      return undefined;
    case "link.add":
      return {
        op: "link.delete",
        namespace: operation.namespace,
        name: operation.link.name,
        ...(operation.link.alias !== undefined && { alias: operation.link.alias }),
        link: operation.link,
      };
    case "link.delete":
      return operation.link && { op: "link.add", namespace: operation.namespace, link: operation.link };
    case "link.set":
      return (
        operation.was && {
          ...operation,
          name: operation.set.name ?? operation.name,
          set: operation.was,
          was: operation.set,
        }
      );
    case "address.add":
      return {
        op: "address.delete",
        namespace: operation.namespace,
        device: operation.device,
        address: operation.address,
      };
    case "address.delete":
      return { ...operation, op: "address.add" };
    case "route.add":
      return { ...operation, op: "route.delete" };
    case "route.delete":
      return { ...operation, op: "route.add" };
    case "rule.add":
      return { ...operation, op: "rule.delete" };
    case "rule.delete":
      return { ...operation, op: "rule.add" };
    case "neighbor.add":
      return { ...operation, op: "neighbor.delete" };
    case "neighbor.delete":
      return { ...operation, op: "neighbor.add" };
    case "fdb.add":
      return { ...operation, op: "fdb.delete" };
    case "fdb.delete":
      return { ...operation, op: "fdb.add" };
    case "sysctl.set":
      return operation.was === undefined ? undefined : { ...operation, value: operation.was, was: operation.value };
    case "nft.apply":
      return operation.undo === undefined
        ? undefined
        : { ...operation, script: operation.undo, undo: operation.script };
    case "nft.redirect": {
      const { namespace, redirect } = operation;
      const script = `delete table ip ${redirect.table}\n`;
      return { op: "nft.apply", namespace, script, undo: redirectScript(redirect) };
    }
    case "conntrack.flush":
      return undefined;
  }
};

/** What takes a whole plan back, last operation first; operations without an inverse are left out. */
export const inversePlan = (operations: Plan): Plan =>
  plan(...[...operations].reverse().flatMap((operation) => inverse(operation) ?? []));
