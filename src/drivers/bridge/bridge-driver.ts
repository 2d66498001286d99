import type { FirewallNetwork } from "../../linux/firewall.ts";
import { hostNamespace, type Operation, type Plan, plan } from "../../linux/plan.ts";
import { macFromIp } from "../../net/mac.ts";
import { addressOf, prefixFamily } from "../../net/prefix.ts";
import type { Attachment, DriverEndpoint, DriverNetwork, DriverSandbox, NetworkDriver, Options } from "../driver.ts";
import { addressOption, booleanOption, interfaceNameOption, mtuOption, option, refuseUnknown } from "../options.ts";

const known = [
  option.bridgeName,
  option.defaultBridge,
  option.mtu,
  option.icc,
  option.masquerade,
  option.hostBindingIpv4,
];

/** The bridge of a network: `docker0`-style by option, else `br-<12 of network id>` as in the original. */
export const bridgeName = (network: Pick<DriverNetwork, "id" | "options">): string =>
  network.options[option.bridgeName] ?? `br-${network.id.slice(0, 12)}`;

/** The endpoint's link on the host; the original takes seven random digits, ours are the endpoint's. */
export const hostLinkName = (endpoint: Pick<DriverEndpoint, "id">): string => `veth${endpoint.id.slice(0, 11)}`;

/** Driver `bridge`: a Linux bridge that carries the gateway address, a veth pair an endpoint, NAT to the outside. */
export const bridgeDriver = (): NetworkDriver => ({
  name: "bridge",
  scope: "local",
  usesIpam: true,
  singleton: false,
  hasWayOut: true,

  checkNetwork(network): Options {
    refuseUnknown("bridge", network.options, known);
    interfaceNameOption(network.options, option.bridgeName);
    mtuOption(network.options);
    addressOption(network.options, option.hostBindingIpv4, 4);
    for (const name of [option.defaultBridge, option.icc, option.masquerade])
      booleanOption(network.options, name, false);
    return network.options;
  },

  createNetwork(network): Plan {
    const name = bridgeName(network);
    const mtu = mtuOption(network.options);
    const gateway = network.subnets.find(({ gateway }) => gateway)?.gateway;
    const conf = (family: 4 | 6, key: string, value: string): Operation => ({
      op: "sysctl.set",
      namespace: hostNamespace,
      key: `net/ipv${family}/conf/${name}/${key}`,
      value,
    });
    return plan(
      {
        op: "link.add",
        namespace: hostNamespace,
        link: {
          kind: "bridge",
          name,
          alias: network.mark,
          // A bridge without a fixed address takes the lowest of its ports' and changes it as they come and go.
          ...(gateway && { mac: macFromIp(addressOf(gateway)) }),
          ...(mtu !== undefined && { mtu }),
        },
      },
      // A sandbox must not be able to configure its host by router advertisements (CVE-2020-13401).
      conf(6, "accept_ra", "0"),
      conf(6, "disable_ipv6", network.ipv6 ? "0" : "1"),
      ...network.subnets.flatMap(({ gateway }): Operation[] =>
        gateway ? [{ op: "address.add", namespace: hostNamespace, device: name, address: gateway, nodad: true }] : [],
      ),
      { op: "link.set", namespace: hostNamespace, name, set: { up: true } },
      { op: "sysctl.set", namespace: hostNamespace, key: "net/ipv4/ip_forward", value: "1" },
      ...(network.ipv6 && !network.internal
        ? [{ op: "sysctl.set", namespace: hostNamespace, key: "net/ipv6/conf/all/forwarding", value: "1" } as const]
        : []),
    );
  },

  deleteNetwork: (network) =>
    plan({ op: "link.delete", namespace: hostNamespace, name: bridgeName(network), alias: network.mark }),

  attach(network, endpoint, sandbox): Attachment {
    const mtu = mtuOption(network.options);
    const hostLink = hostLinkName(endpoint);
    const hostAddress = addressOption(network.options, option.hostBindingIpv4, 4);
    return {
      hostLink,
      ...(!network.internal && {
        publish: hostAddress === undefined || hostAddress === "0.0.0.0" ? {} : { hostAddress },
      }),
      attach: plan(
        {
          op: "link.add",
          namespace: hostNamespace,
          link: {
            kind: "veth",
            name: hostLink,
            alias: endpoint.mark,
            master: bridgeName(network),
            up: true,
            ...(mtu !== undefined && { mtu }),
            peer: {
              name: sandbox.interfaceName,
              namespace: sandbox.namespace,
              ...(endpoint.mac !== undefined && { mac: endpoint.mac }),
              ...(mtu !== undefined && { mtu }),
            },
          },
        },
        // With br_netfilter a packet to the sandbox's own published port never leaves the bridge (moby 27817).
        ...(sandbox.ports
          ? [{ op: "link.set", namespace: hostNamespace, name: hostLink, set: { hairpin: true } } as const]
          : []),
        ...interfaceOperations(endpoint, sandbox),
      ),
      detach: plan({ op: "link.delete", namespace: hostNamespace, name: hostLink, alias: endpoint.mark }),
      gateways: network.internal ? [] : network.subnets.flatMap(({ gateway }) => (gateway ? [addressOf(gateway)] : [])),
    };
  },

  firewall: (network): FirewallNetwork => ({
    bridge: bridgeName(network),
    subnets: network.subnets.map(({ pool }) => pool),
    internal: network.internal,
    masquerade: booleanOption(network.options, option.masquerade, true),
    icc: booleanOption(network.options, option.icc, true),
  }),
});

/** Addresses on, and up: what the interface inside the sandbox needs whatever made it. */
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
    { op: "link.set", namespace, name: interfaceName, set: { up: true } },
  ];
};
