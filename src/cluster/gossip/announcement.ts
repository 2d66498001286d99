import * as z from "zod";
import { type Mac, macFromBytes, macToBytes, parseMac } from "../../net/mac.ts";
import { type InterfaceAddress, parseInterfaceAddress } from "../../net/prefix.ts";

/** What a node tells the others of one of its endpoints. Where its tunnels end is not in it: that is for the membership to say. */
export interface Announcement {
  /** 64 hex digits. */
  readonly id: string;
  /** Id of the network, the same on every node. */
  readonly network: string;
  readonly name: string;
  readonly aliases: readonly string[];
  readonly addresses: readonly InterfaceAddress[];
  readonly mac?: Mac;
  /** Milliseconds since 1970, by the node's clock. */
  readonly created: number;
  /** The container that it is attached to. */
  readonly container?: string;
}

/** Names become names in DNS and in files: the rule of the controller, which the sender's kept. */
const label = "[A-Za-z0-9][A-Za-z0-9_-]{0,62}";
const serviceName = z
  .string()
  .max(253)
  .regex(new RegExp(`^${label}(\\.${label})*$`));
const bytes = (length: number) => z.instanceof(Uint8Array).refine((value) => value.length === length);
const id = bytes(32).transform((value) => Buffer.from(value).toString("hex"));
const address = z
  .string()
  .max(49)
  .transform((value, context): InterfaceAddress => {
    try {
      return parseInterfaceAddress(value);
    } catch {
      context.addIssue({ code: "custom", message: "not an address in CIDR form" });
      return z.NEVER;
    }
  });
const mac = bytes(6).transform((value, context): Mac => {
  try {
    return parseMac(macFromBytes(value));
  } catch {
    context.addIssue({ code: "custom", message: "not a unicast MAC address" });
    return z.NEVER;
  }
});

/** On the wire a row, so that 470 bytes hold one with some names. The latest time is that of ECMA-262's Date. */
export const announcementRow = z
  .tuple([
    id,
    id,
    serviceName,
    z.array(serviceName).max(64),
    z.array(address).max(8),
    mac.nullable(),
    z.int().min(0).max(8.64e15),
    z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/)
      .nullable(),
  ])
  .transform(
    ([endpoint, network, name, aliases, addresses, hardware, created, container]): Announcement => ({
      id: endpoint,
      network,
      name,
      aliases,
      addresses,
      ...(hardware !== null && { mac: hardware }),
      created,
      ...(container !== null && { container }),
    }),
  );

export const toRow = (announcement: Announcement): readonly unknown[] => [
  Buffer.from(announcement.id, "hex"),
  Buffer.from(announcement.network, "hex"),
  announcement.name,
  announcement.aliases,
  announcement.addresses,
  announcement.mac === undefined ? null : macToBytes(announcement.mac),
  announcement.created,
  announcement.container ?? null,
];
