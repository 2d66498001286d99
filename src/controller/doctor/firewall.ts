import { differenceText } from "../firewall-guard.ts";
import { type Check, repairCommand } from "./check.ts";

/** The host's tables of ours against what the records make of them. */
export const firewallCheck: Check = {
  name: "firewall",
  async run({ context, signal }) {
    return (await context.firewall.differences(signal)).map((difference) => ({
      code: "firewall-differs",
      subject: `nftables table ${difference.table}`,
      what: differenceText(difference),
      expected: "the rules that follow from the networks",
      consequence: "containers may lack the way out, or networks their isolation",
      remedy: `${repairCommand}; see what changes rules here with: nft monitor`,
      repairable: true,
    }));
  },
};
