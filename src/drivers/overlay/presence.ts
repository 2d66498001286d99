import { hostNamespace, type Operation, type Plan, plan } from "../../linux/plan.ts";
import { macFromIp } from "../../net/mac.ts";
import { addressOf, prefixFamily } from "../../net/prefix.ts";
import type { DriverHost, DriverNetwork, NetworkRemains } from "../driver.ts";
import { type Layout, layoutOf, namespacePath, type Segment } from "./layout.ts";
import { filterCreate, filterRemove } from "./member-filter.ts";
import { overlayMtu } from "./mtu.ts";
import { vxlanPort } from "./vxlan-port.ts";

/** What an overlay network needs on a host: a namespace with a bridge and a VXLAN device for each segment. */

export const presenceCreate = (network: DriverNetwork, host: DriverHost): Plan => {
  const layout = layoutOf(network, host);
  const { namespace, segments } = layout;
  return plan(
    ...(host.firewall === false ? [] : [filterCreate(network, host)]),
    ...(namespace === hostNamespace ? [] : namespaceOperations(network, layout)),
    ...segments.flatMap((segment) => segmentOperations(network, host, namespace, segment)),
  );
};

/** Nothing in the namespace speaks IPv6 unless the network does, and nothing in it takes a router's word. */
const namespaceOperations = ({ mark }: DriverNetwork, { namespace, segments }: Layout): readonly Operation[] => {
  const set = (key: string, value: string): Operation => ({ op: "sysctl.set", namespace, key, value });
  // Between the segments of a network, its bridges are the routers.
  const routed = segments.length > 1 ? segments.flatMap(({ subnets }) => subnets) : [];
  return [
    // Marked, so that it is known also where a crash came before there was a bridge in it.
    { op: "namespace.add", path: namespace, alias: mark },
    set("net/ipv6/conf/default/disable_ipv6", "1"),
    set("net/ipv6/conf/default/accept_ra", "0"),
    ...(routed.some(({ pool }) => prefixFamily(pool) === 4) ? [set("net/ipv4/ip_forward", "1")] : []),
    ...(routed.some(({ pool }) => prefixFamily(pool) === 6) ? [set("net/ipv6/conf/all/forwarding", "1")] : []),
  ];
};

const segmentOperations = (
  network: DriverNetwork,
  host: DriverHost,
  namespace: string,
  { vni, bridge, vxlan, subnets }: Segment,
): readonly Operation[] => {
  const mtu = overlayMtu(network, host);
  const gateways = subnets.flatMap(({ gateway }) => (gateway ? [gateway] : []));
  const ipv6 = subnets.some(({ pool }) => prefixFamily(pool) === 6);
  return [
    {
      op: "link.add",
      namespace,
      link: {
        kind: "bridge",
        name: bridge,
        alias: network.mark,
        mtu,
        // The gateway's MAC is the same on every host; so a sandbox that moves finds the one it knows.
        ...(gateways[0] && { mac: macFromIp(addressOf(gateways[0])) }),
        // A sandbox that plays multicast router would keep neighbour solicitations from the other ports.
        multicastSnooping: false,
      },
    },
    ...ipv6Operations(namespace, bridge, ipv6),
    ...gateways.map((address): Operation => ({ op: "address.add", namespace, device: bridge, address, nodad: true })),
    { op: "link.set", namespace, name: bridge, set: { up: true } },
    {
      op: "link.add",
      namespace,
      link: {
        kind: "vxlan",
        name: vxlan,
        underlay: hostNamespace,
        alias: network.mark,
        mtu,
        vni,
        port: vxlanPort,
        local: host.vtep,
        // Answers for its neighbours, tells of those it does not know, and believes no packet about where anybody is.
        proxy: true,
        l2miss: true,
        l3miss: true,
        learning: false,
        master: bridge,
        // Who is here, the bridge is told; so all that it does not know is elsewhere.
        bridgePort: { learning: false, flood: true },
      },
    },
    // The kernel keeps neighbours of an interface only while IPv6 is on there.
    ...ipv6Operations(namespace, vxlan, ipv6),
    { op: "link.set", namespace, name: vxlan, set: { up: true } },
  ];
};

/** IPv6 with no address but those given: mode 1 of addr_gen_mode is "none". */
const ipv6Operations = (namespace: string, device: string, on: boolean): readonly Operation[] => {
  const set = (key: string, value: string): Operation => ({
    op: "sysctl.set",
    namespace,
    key: `net/ipv6/conf/${device}/${key}`,
    value,
  });
  return on ? [set("accept_ra", "0"), set("addr_gen_mode", "1"), set("disable_ipv6", "0")] : [set("disable_ipv6", "1")];
};

/**
 * The VXLAN devices go by themselves and first: the kernel takes a namespace apart some time after its name is gone, and
 * until then the VNI is taken.
 */
export const presenceRemove = (network: DriverNetwork, host: DriverHost): Plan => {
  const { namespace, segments } = layoutOf(network, host);
  const remove = (name: string): Operation => ({ op: "link.delete", namespace, name, alias: network.mark });
  return plan(
    ...segments.map(({ vxlan }) => remove(vxlan)),
    ...(namespace === hostNamespace
      ? segments.map(({ bridge }) => remove(bridge))
      : [{ op: "namespace.delete", path: namespace } as const]),
    ...(host.firewall === false ? [] : [filterRemove(network)]),
  );
};

/**
 * The same for a network whose record is gone: its links are found by their mark. A bridge without its VXLAN device is what a removal
 * left that was cut short.
 */
export const presenceRemoveRemains = ({ id, mark, namespace, links }: NetworkRemains, host: DriverHost): Plan => {
  const isOwn = namespace === namespacePath({ id }, host);
  if (!isOwn && !links.some(({ kind }) => kind === "vxlan")) return plan();
  const remove = (kind: "vxlan" | "bridge"): readonly Operation[] =>
    links.filter((link) => link.kind === kind).map(({ name }) => ({ op: "link.delete", namespace, name, alias: mark }));
  return plan(
    ...remove("vxlan"),
    // What is marked goes with the namespace, not before it: it is what the namespace is known by.
    ...(isOwn ? [{ op: "namespace.delete", path: namespace } as const] : remove("bridge")),
    ...(host.firewall === false ? [] : [filterRemove({ id })]),
  );
};
