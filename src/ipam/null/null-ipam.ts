import type { Ipam } from "../ipam.ts";

/** No addresses at all: for networks whose addresses somebody else gives out (DHCP, a router). */
export class NullIpam implements Ipam {
  choosePool(): undefined {
    return undefined;
  }
  chooseAddress(): undefined {
    return undefined;
  }
}
