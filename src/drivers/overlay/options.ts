import { badRequest, notImplemented, shown } from "../../errors.ts";
import type { DriverNetwork, Options } from "../driver.ts";
import { booleanOption, mtuOption, option, refuseUnknown } from "../options.ts";

const known = [option.mtu, option.vxlanIds, option.multicast];

/** VNIs of 24 bits (RFC 7348 section 5); the first 256 are left to people, as in the original. */
export const vni = { lowest: 1, first: 256, last: 0xffffff } as const;

/**
 * The VNIs that a network's options ask for, one a subnet.
 * @throws NetworkError `invalid-option` with the original's text
 */
export const fixedIds = (options: Options): readonly number[] | undefined => {
  const text = options[option.vxlanIds];
  if (text === undefined) return undefined;
  const ids = text.split(",").map((part) => {
    const id = Number(part);
    if (!/^\d{1,8}$/.test(part) || id < vni.lowest || id > vni.last) {
      throw badRequest("invalid-option", `invalid vxlan id value ${shown(part)} passed`, {
        hint: `${option.vxlanIds} takes numbers from ${vni.lowest} to ${vni.last}, with commas between them`,
      });
    }
    return id;
  });
  if (new Set(ids).size < ids.length) {
    throw badRequest("invalid-option", `invalid option ${option.vxlanIds}: ${shown(text)} names an id twice`);
  }
  return ids;
};

/** @throws NetworkError (bad request) that names the option */
export const checkOptions = (network: DriverNetwork): Options => {
  const { options, subnets } = network;
  if (options[option.encrypted] !== undefined) {
    throw notImplemented("encryption", "encrypted overlay networks are not supported", {
      hint: "leave the option encrypted away, and run the hosts' traffic through a VPN where it must be secret",
    });
  }
  refuseUnknown("overlay", options, known);
  mtuOption(options);
  booleanOption(options, option.multicast, false);
  const ids = fixedIds(options);
  if (ids && ids.length !== subnets.length) {
    throw badRequest(
      "invalid-option",
      `invalid option ${option.vxlanIds}: ${ids.length} ids for ${subnets.length} subnets`,
      {
        hint: "give one id for each subnet",
      },
    );
  }
  return options;
};
