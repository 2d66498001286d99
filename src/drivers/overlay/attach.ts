import { internal } from "../../errors.ts";
import { type Operation, plan } from "../../linux/plan.ts";
import { addressOf, prefixContains, prefixFamily } from "../../net/prefix.ts";
import type { Attachment, DriverEndpoint, DriverHost, DriverNetwork, DriverSandbox } from "../driver.ts";
import { layoutOf, portName, type Segment, segmentOf } from "./layout.ts";
import { overlayMtu } from "./mtu.ts";

/** A veth pair between the sandbox and the bridge of the endpoint's segment. */
export const attachEndpoint = (
  network: DriverNetwork,
  endpoint: DriverEndpoint,
  sandbox: DriverSandbox,
  host: DriverHost,
): Attachment => {
  const layout = layoutOf(network, host);
  const { namespace, segments } = layout;
  const [first] = endpoint.addresses;
  const segment = first && segmentOf(layout, addressOf(first));
  if (segment === undefined) {
    throw internal("no-segment", `endpoint ${endpoint.name} has no address of network ${network.name}`);
  }
  const mtu = overlayMtu(network, host);
  const port = portName(endpoint);
  const mac = endpoint.mac === undefined ? {} : { mac: endpoint.mac };
  return {
    attach: plan(
      {
        op: "link.add",
        namespace,
        link: {
          kind: "veth",
          name: port,
          alias: endpoint.mark,
          mtu,
          master: segment.bridge,
          // The bridge is told who is here and learns nothing: no frame, from here or from afar, can take another's place.
          bridgePort: { learning: false, flood: false },
          up: true,
          peer: { name: sandbox.interfaceName, namespace: sandbox.namespace, mtu, ...mac },
        },
      },
      ...(endpoint.mac === undefined ? [] : [{ op: "fdb.add", namespace, device: port, mac: endpoint.mac } as const]),
      ...interfaceOperations(endpoint, sandbox),
      ...segments.flatMap((other) => routesTo(other, segment, endpoint, sandbox)),
    ),
    detach: plan({ op: "link.delete", namespace, name: port, alias: endpoint.mark }),
    gateways: [],
  };
};

const interfaceOperations = (endpoint: DriverEndpoint, sandbox: DriverSandbox): readonly Operation[] => {
  const { namespace, interfaceName } = sandbox;
  const ipv6 = endpoint.addresses.some((address) => prefixFamily(address) === 6);
  return [
    ...(ipv6
      ? [{ op: "sysctl.set", namespace, key: `net/ipv6/conf/${interfaceName}/disable_ipv6`, value: "0" } as const]
      : []),
    ...endpoint.addresses.map(
      (address): Operation => ({ op: "address.add", namespace, device: interfaceName, address, nodad: true }),
    ),
    ...[4, 6].filter((family) => family === 4 || ipv6).flatMap((family) => patience(namespace, interfaceName, family)),
    { op: "link.set", namespace, name: interfaceName, set: { up: true } },
  ];
};

/**
 * Who asks for an address that this host learns of in the next moment asks again soon: every 100 ms in place of a second, and in all
 * as long as usual. The VXLAN device answers itself, so no question leaves the host.
 */
const patience = (namespace: string, device: string, family: number): readonly Operation[] => {
  const set = (key: string, value: string): Operation => ({
    op: "sysctl.set",
    namespace,
    key: `net/ipv${family}/neigh/${device}/${key}`,
    value,
  });
  return [set("retrans_time_ms", "100"), set("mcast_solicit", "30")];
};

/** The other subnets of the network: on the same wire where they share the segment, else behind the bridge. */
const routesTo = (
  other: Segment,
  own: Segment,
  endpoint: DriverEndpoint,
  sandbox: DriverSandbox,
): readonly Operation[] => {
  const { namespace, interfaceName: device } = sandbox;
  return other.subnets.flatMap(({ pool: to }): readonly Operation[] => {
    if (endpoint.addresses.some((address) => prefixContains(to, addressOf(address)))) return [];
    const four = prefixFamily(to) === 4;
    if (other === own) return [{ op: "route.add", namespace, route: { to, device, ...(four && { onLink: true }) } }];
    const via = own.subnets.find(({ pool, gateway }) => gateway && prefixFamily(pool) === prefixFamily(to))?.gateway;
    return via ? [{ op: "route.add", namespace, route: { to, via: addressOf(via), device } }] : [];
  });
};
