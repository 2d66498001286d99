import type { DriverNetwork } from "../src/drivers/driver.ts";
import { option } from "../src/drivers/options.ts";
import { parseInterfaceAddress, parsePrefix } from "../src/net/prefix.ts";

/** Representative configurations of bridge networks: what the golden files, the documentation and tests of the ruleset are made of. */
export interface Configuration {
  readonly name: string;
  readonly title: string;
  readonly networks: readonly DriverNetwork[];
}

const four = (n: number) => ({
  pool: parsePrefix(`172.${n}.0.0/16`),
  gateway: parseInterfaceAddress(`172.${n}.0.1/16`),
});
const six = (n: number) => ({
  pool: parsePrefix(`fd00:${n}::/64`),
  gateway: parseInterfaceAddress(`fd00:${n}::1/64`),
});

const network = (name: string, n: number, more: Partial<DriverNetwork> = {}): DriverNetwork => ({
  id: `${n}`.padStart(12, "0").padEnd(64, "0"),
  name,
  mark: `dnet:0badcafe:${name}`,
  internal: false,
  ipv6: more.subnets?.some(({ pool }) => pool.includes(":")) ?? false,
  options: { [option.bridgeName]: `br-${name}` },
  subnets: [four(n)],
  ...more,
});

const withOptions = (name: string, more: Readonly<Record<string, string>>) => ({
  options: { [option.bridgeName]: `br-${name}`, ...more },
});

export const configurations: readonly Configuration[] = [
  { name: "none", title: "No network", networks: [] },
  { name: "nat", title: "A network as it is made without options (mode nat)", networks: [network("web", 18)] },
  {
    name: "dual-stack",
    title: "IPv4 and IPv6, both behind the host's addresses",
    networks: [network("web", 18, { subnets: [four(18), six(18)] })],
  },
  { name: "ipv6-only", title: "IPv6 alone", networks: [network("six", 18, { subnets: [six(18)] })] },
  {
    name: "internal",
    title: "Internal: reaches nothing, nothing reaches it",
    networks: [network("back", 18, { internal: true, subnets: [four(18), six(18)] })],
  },
  {
    name: "isolated",
    title: "Internal, and without an address of the host (mode isolated)",
    networks: [
      network("vault", 18, {
        internal: true,
        ...withOptions("vault", { [option.gatewayModeIpv4]: "isolated", [option.gatewayModeIpv6]: "isolated" }),
      }),
    ],
  },
  {
    name: "icc-off",
    title: "Sandboxes of one network kept apart",
    networks: [network("apart", 18, withOptions("apart", { [option.icc]: "false" }))],
  },
  {
    name: "routed",
    title: "Routed: addresses leave as they are, published ports are reached at the sandbox's address",
    networks: [
      network("lan", 18, {
        subnets: [four(18), six(18)],
        ...withOptions("lan", { [option.gatewayModeIpv4]: "routed", [option.gatewayModeIpv6]: "routed" }),
      }),
    ],
  },
  {
    name: "nat-unprotected",
    title: "NAT for the way out, every port reachable by whoever has a route",
    networks: [network("open", 18, withOptions("open", { [option.gatewayModeIpv4]: "nat-unprotected" }))],
  },
  {
    name: "mixed-modes",
    title: "NAT for IPv4, routed IPv6",
    networks: [
      network("mixed", 18, {
        subnets: [four(18), six(18)],
        ...withOptions("mixed", { [option.gatewayModeIpv6]: "routed" }),
      }),
    ],
  },
  {
    name: "source-and-trust",
    title: "A chosen address for the way out, and an interface from which everything is reachable",
    networks: [
      network("shop", 18, withOptions("shop", { [option.hostIpv4]: "203.0.113.9", [option.trustedInterfaces]: "wg0" })),
    ],
  },
  {
    name: "several",
    title: "Several networks: the rules are the same, the sets are longer",
    networks: [
      network("web", 18, { subnets: [four(18), six(18)] }),
      network("back", 19, { internal: true }),
      network("lan", 20, withOptions("lan", { [option.gatewayModeIpv4]: "routed" })),
      network("plain", 21, withOptions("plain", { [option.masquerade]: "false" })),
    ],
  },
];
