import type { InterfaceAddress } from "../../net/prefix.ts";
import { decodeAddress } from "./address.ts";
import { rtm } from "./constants.ts";
import { decodeLink } from "./link.ts";
import { decodeMessages } from "./message.ts";

/** What a link of ours lost: itself, its bridge or being up (named by its mark); or an address that went, of whatever link. */
export type LinkLoss = { readonly mark: string } | { readonly address: InterfaceAddress };

/**
 * Losses among the notifications that `lossesOnly` lets through; it knows nothing of marks and kinds.
 * @param mark what marks of ours begin with
 * @throws NetworkError `malformed-netlink`
 */
export const linkLosses = (bytes: Buffer, mark: string): readonly LinkLoss[] =>
  decodeMessages(bytes).flatMap(({ type, body }): readonly LinkLoss[] => {
    if (type === rtm.DELADDR) {
      const { address } = decodeAddress(body);
      // Link-local ones the kernel makes and takes by itself.
      return address.startsWith("fe80:") ? [] : [{ address }];
    }
    if (type !== rtm.NEWLINK && type !== rtm.DELLINK) return [];
    const { alias, up, kind, master } = decodeLink(body);
    if (!alias?.startsWith(mark)) return [];
    // The host's end of a sandbox's pair is a bridge's port as long as it is there.
    const whole = type === rtm.NEWLINK && up && (kind !== "veth" || master !== undefined);
    return whole ? [] : [{ mark: alias }];
  });
