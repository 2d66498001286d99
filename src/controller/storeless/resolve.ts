import { createHash } from "node:crypto";
import type { Announcement } from "../../cluster/gossip/announcement.ts";
import type { Announced } from "../../cluster/gossip/endpoint-gossip.ts";
import type { Ip } from "../../net/ip.ts";
import { addressOf, prefixContains } from "../../net/prefix.ts";
import type { EndpointRecord, NetworkRecord } from "../records.ts";

/** What a network without a store consists of, as one node sees it. */
export interface Resolved {
  /** Records of other nodes' endpoints. */
  readonly remote: readonly EndpointRecord[];
  /** New names of this node's endpoints that have lost theirs to older ones, by id. */
  readonly renamed: ReadonlyMap<string, string>;
  /** Endpoints of others that cannot be here, and why. */
  readonly refused: readonly { readonly id: string; readonly reason: string }[];
}

interface Candidate {
  readonly id: string;
  readonly name: string;
  readonly created: number;
  /** Absent for this node's own. */
  readonly remote?: EndpointRecord;
}

/**
 * Decides who has which name and address, from what all nodes say. Nobody is asked, so every node must come to the same result: of two
 * endpoints with one name the older keeps it, of two that are equally old that with the lower id; the other's name gets six digits of
 * its id. An address that a local endpoint has is not another's.
 * @param ids of endpoints that are there already, in any network; those of others are added
 */
export const resolve = (
  network: NetworkRecord,
  own: readonly EndpointRecord[],
  others: readonly Announced[],
  ids: Set<string>,
): Resolved => {
  const refused: { id: string; reason: string }[] = [];
  const taken = new Set<string>(own.flatMap(placesOf));
  const candidates: Candidate[] = own.map((record) => ({
    id: record.id,
    name: record.name,
    created: Date.parse(record.created),
  }));
  const announced = others.flatMap(({ node, vtep, announcements }) =>
    announcements.filter((each) => each.network === network.id).map((each) => ({ node, vtep, each })),
  );
  announced.sort((a, b) => byAge(a.each, b.each));
  for (const { node, vtep, each } of announced) {
    const remote = recordOf(each, node, vtep);
    const places = placesOf(remote);
    const clash = places.find((place) => taken.has(place));
    const outside = remote.addresses.map(addressOf).find((ip) => !isOfNetwork(network, ip));
    if (outside !== undefined)
      refused.push({ id: each.id, reason: `${outside} is no address of the network's subnets` });
    else if (clash !== undefined) refused.push({ id: each.id, reason: `${clash} is another service's` });
    else if (ids.has(each.id)) refused.push({ id: each.id, reason: "its id is another service's" });
    else {
      for (const place of places) taken.add(place);
      ids.add(each.id);
      candidates.push({ id: each.id, name: each.name, created: each.created, remote });
    }
  }
  const names = new Set<string>();
  const remotes: EndpointRecord[] = [];
  const renamed = new Map<string, string>();
  for (const { id, name: wanted, remote } of candidates.sort(byAge)) {
    const name = names.has(wanted) ? secondName(wanted, id) : wanted;
    names.add(name);
    if (remote) remotes.push({ ...remote, name });
    else if (name !== wanted) renamed.set(id, name);
  }
  return { remote: remotes, renamed, refused };
};

const byAge = (a: Pick<Announcement, "created" | "id">, b: Pick<Announcement, "created" | "id">): number =>
  a.created - b.created || (a.id < b.id ? -1 : 1);

/** `web-3f2a91`: the first label stays within its 63 bytes. */
export const secondName = (name: string, id: string): string => {
  const [first = "", ...rest] = name.split(".");
  const whole = [`${first.slice(0, 56)}-${id.slice(0, 6)}`, ...rest].join(".");
  return whole.length <= 253 ? whole : (whole.split(".")[0] ?? "");
};

/** What only one endpoint of a network can have. */
const placesOf = ({ addresses, mac }: EndpointRecord): readonly string[] => [
  ...addresses.map(addressOf),
  ...(mac === undefined ? [] : [mac]),
];

const isOfNetwork = ({ subnets, auxiliary }: NetworkRecord, ip: Ip): boolean =>
  subnets.some(({ pool }) => prefixContains(pool, ip)) &&
  !subnets.some(({ gateway }) => gateway !== undefined && addressOf(gateway) === ip) &&
  !Object.values(auxiliary).includes(ip);

const recordOf = (announcement: Announcement, node: string, vtep: Ip | undefined): EndpointRecord => ({
  version: 1,
  id: announcement.id,
  network: announcement.network,
  name: announcement.name,
  aliases: [...announcement.aliases],
  addresses: [...announcement.addresses],
  ...(announcement.mac !== undefined && { mac: announcement.mac }),
  options: {},
  created: new Date(announcement.created).toISOString(),
  announcedBy: node,
  ...(announcement.container !== undefined && {
    sandbox: {
      // Never the id of a sandbox of this host, whatever a node says.
      id: createHash("sha256").update(`${node}/${announcement.container}`).digest("hex"),
      node,
      ...(vtep !== undefined && { vtep }),
      container: announcement.container,
      interface: "eth0",
      order: 0,
      aliases: [],
    },
  }),
});

/** What others are told of an endpoint of this node. */
export const announcementOf = (record: EndpointRecord): Announcement => ({
  id: record.id,
  network: record.network,
  name: record.name,
  aliases: record.aliases,
  addresses: record.addresses,
  ...(record.mac !== undefined && { mac: record.mac }),
  created: Date.parse(record.created),
  ...(record.sandbox && { container: record.sandbox.container }),
});
