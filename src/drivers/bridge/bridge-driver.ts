import { badRequest } from "../../errors.ts";
import { type FirewallNetwork, type GatewayMode, gatewayModes } from "../../linux/firewall.ts";
import { hostNamespace, type Operation, type Plan, plan } from "../../linux/plan.ts";
import { macFromIp } from "../../net/mac.ts";
import { addressOf, type InterfaceAddress, prefixFamily } from "../../net/prefix.ts";
import type { Attachment, DriverEndpoint, DriverNetwork, DriverSandbox, NetworkDriver, Options } from "../driver.ts";
import {
  addressOption,
  booleanOption,
  interfaceListOption,
  interfaceNameOption,
  interfacePrefixOption,
  modernOptions,
  mtuOption,
  option,
  refuseUnknown,
  wordOption,
} from "../options.ts";

/** All but those that only other drivers have. */
const known = Object.values(option).filter(
  (name) => name !== option.vxlanIds && name !== option.multicast && name !== option.encrypted,
);

const gatewayMode = (network: Pick<DriverNetwork, "options">, family: 4 | 6): GatewayMode =>
  wordOption(network.options, family === 4 ? option.gatewayModeIpv4 : option.gatewayModeIpv6, gatewayModes);

/** The bridge of a network: `docker0`-style by option, else `br-<12 of network id>` as in the original. */
export const bridgeName = (network: Pick<DriverNetwork, "id" | "options">): string =>
  network.options[option.bridgeName] ?? `br-${network.id.slice(0, 12)}`;

/** The endpoint's link on the host; the original takes seven random digits, ours are the endpoint's. */
export const hostLinkName = (endpoint: Pick<DriverEndpoint, "id">): string => `veth${endpoint.id.slice(0, 11)}`;

/** IPV6_MIN_MTU of linux/ipv6.h: a link below it has no IPv6 at all, nor its sysctls. */
const minimumIpv6Mtu = 1280;
const carriesIpv6 = (mtu: number | undefined): boolean => mtu === undefined || mtu >= minimumIpv6Mtu;

/** Driver `bridge`: a Linux bridge that carries the gateway address, a veth pair an endpoint, NAT to the outside. */
export const bridgeDriver = (): NetworkDriver => ({
  name: "bridge",
  scope: "local",
  usesIpam: true,
  singleton: false,
  hasWayOut: true,

  checkNetwork(network): Options {
    const options = modernOptions(network.options);
    refuseUnknown("bridge", options, known);
    interfaceNameOption(options, option.bridgeName);
    const mtu = mtuOption(options);
    if (network.ipv6 && !carriesIpv6(mtu)) {
      throw badRequest("invalid-option", `invalid option ${option.mtu}: IPv6 needs ${minimumIpv6Mtu} at least`);
    }
    for (const name of [option.defaultBridge, option.icc, option.masquerade, option.inhibitIpv4, option.antiSpoofing])
      booleanOption(options, name, false);
    addressOption(options, option.hostBindingIpv4, 4);
    addressOption(options, option.hostIpv4, 4);
    addressOption(options, option.hostIpv6, 6);
    interfacePrefixOption(options);
    interfaceListOption(options, option.trustedInterfaces);
    for (const family of [4, 6] as const) {
      if (gatewayMode({ options }, family) === "isolated" && !network.internal) {
        throw badRequest("invalid-option", "invalid option: gateway mode isolated is for internal networks only", {
          hint: "create the network with --internal",
        });
      }
    }
    return options;
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
      ...(carriesIpv6(mtu)
        ? [
            conf(6, "accept_ra", "0"),
            // Its addresses are its own: looking for duplicates only keeps it from asking for neighbours in its first seconds.
            conf(6, "accept_dad", "0"),
            conf(6, "disable_ipv6", network.ipv6 && gatewayMode(network, 6) !== "isolated" ? "0" : "1"),
          ]
        : []),
      ...gatewayAddresses(network).map(
        (address): Operation => ({ op: "address.add", namespace: hostNamespace, device: name, address, nodad: true }),
      ),
      { op: "link.set", namespace: hostNamespace, name, set: { up: true } },
      // Internal networks go nowhere: for them the host need not become a router.
      ...(network.internal
        ? []
        : [{ op: "sysctl.set", namespace: hostNamespace, key: "net/ipv4/ip_forward", value: "1" } as const]),
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
    const guarded = booleanOption(network.options, option.antiSpoofing, false) && endpoint.mac !== undefined;
    const hostAddress = addressOption(network.options, option.hostBindingIpv4, 4);
    const apart = !booleanOption(network.options, option.icc, true);
    return {
      hostLink,
      ...(apart && sandbox.ports && { apart }),
      ...(!network.internal && {
        publish: {
          ...(hostAddress !== undefined && hostAddress !== "0.0.0.0" && { hostAddress }),
          ...(([4, 6] as const).some((family) => gatewayMode(network, family) === "routed") && { routed: true }),
        },
      }),
      ...(guarded && {
        guarded: { port: hostLink, mac: endpoint.mac, addresses: endpoint.addresses.map(addressOf) },
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
            // The kernel's isolation needs no rules, but would keep others from its published ports.
            ...(apart && { bridgePort: { isolated: sandbox.ports !== true } }),
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
        ...announceOperations(endpoint, sandbox, hostLink),
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
    gatewayModes: { 4: gatewayMode(network, 4), 6: gatewayMode(network, 6) },
    trusted: interfaceListOption(network.options, option.trustedInterfaces),
    source: sourceAddresses(network.options),
    antiSpoofing: booleanOption(network.options, option.antiSpoofing, false),
  }),
});

/** What the bridge itself carries: nothing in a family that is isolated from the host, or whose gateway is elsewhere. */
const gatewayAddresses = (network: DriverNetwork): readonly InterfaceAddress[] =>
  network.subnets.flatMap(({ gateway }) => {
    if (!gateway || gatewayMode(network, prefixFamily(gateway)) === "isolated") return [];
    const inhibited = prefixFamily(gateway) === 4 && booleanOption(network.options, option.inhibitIpv4, false);
    return inhibited ? [] : [gateway];
  });

const sourceAddresses = (options: Options): NonNullable<FirewallNetwork["source"]> => {
  const [four, six] = [addressOption(options, option.hostIpv4, 4), addressOption(options, option.hostIpv6, 6)];
  return { ...(four !== undefined && { 4: four }), ...(six !== undefined && { 6: six }) };
};

/** Addresses on, and up: what the interface inside the sandbox needs whatever made it. */
const interfaceOperations = (endpoint: DriverEndpoint, sandbox: DriverSandbox): readonly Operation[] => {
  const { namespace, interfaceName } = sandbox;
  const ipv6 = endpoint.addresses.some((address) => prefixFamily(address) === 6);
  const conf = (key: string, value: string, family: 4 | 6 = 6): Operation => ({
    op: "sysctl.set",
    namespace,
    key: `net/ipv${family}/conf/${interfaceName}/${key}`,
    value,
  });
  return [
    // Neighbours may know the address at another interface that had it before: the kernel tells them.
    conf("arp_notify", "1", 4),
    ...(ipv6
      ? [
          // Neighbours must not be able to configure a sandbox by router advertisements (CVE-2020-10749).
          conf("accept_ra", "0"),
          conf("accept_redirects", "0"),
          conf("accept_dad", "0"),
          conf("ndisc_notify", "1"),
          conf("disable_ipv6", "0"),
        ]
      : []),
    ...endpoint.addresses.map(
      (address): Operation => ({ op: "address.add", namespace, device: interfaceName, address, nodad: true }),
    ),
    { op: "link.set", namespace, name: interfaceName, set: { up: true } },
  ];
};

/**
 * Has the kernel send gratuitous ARP and unsolicited neighbour advertisements (arp_notify, ndisc_notify). It does so when an
 * interface comes up, too early: the bridge opens a port only when it has learnt of the carrier, which looking at the port
 * makes it do. Giving the interface the hardware address that it has is a change to the kernel, and told again.
 */
const announceOperations = (
  endpoint: DriverEndpoint,
  sandbox: DriverSandbox,
  hostLink: string,
): readonly Operation[] => {
  const { mac } = endpoint;
  if (mac === undefined || endpoint.addresses.length === 0) return [];
  return [
    { op: "link.set", namespace: hostNamespace, name: hostLink, set: { up: true }, again: true },
    { op: "link.set", namespace: sandbox.namespace, name: sandbox.interfaceName, set: { mac }, again: true },
  ];
};
