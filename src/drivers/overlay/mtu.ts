import { familyOf } from "../../net/ip.ts";
import type { DriverHost, DriverNetwork } from "../driver.ts";
import { mtuOption } from "../options.ts";

/** What VXLAN adds (RFC 7348 section 5): inner Ethernet 14, VXLAN 8, UDP 8, and the outer IP header of 20 or 40 bytes. */
const overhead = { 4: 50, 6: 70 } as const;

/** MTU of everything in an overlay, in bytes: the option, or what fits into the underlay's packets. */
export const overlayMtu = (network: DriverNetwork, host: DriverHost): number =>
  mtuOption(network.options) ?? (host.underlayMtu ?? 1500) - overhead[familyOf(host.vtep)];
