import { readdirSync } from "node:fs";
import { dirname } from "node:path";
import type { Namespaces } from "./namespaces.ts";
import { rtm } from "./netlink/constants.ts";
import { type DecodedLink, decodeLink, ifinfo } from "./netlink/link.ts";
import { hostNamespace, type LinkSpec, type NamespaceRef } from "./plan.ts";

/** Who holds a VNI: the kernel says only that somebody does. */

export type Segment = Extract<LinkSpec, { kind: "vxlan" }>;
export type SegmentOwner = DecodedLink & { readonly namespace: NamespaceRef };

/** Namespaces that are looked into, at most. */
const limit = 4096;

const entries = (directory: string): readonly string[] => {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
};

/** The host, the namespaces with a name, and those in which a process lives. */
function* candidates(target: NamespaceRef): Iterable<NamespaceRef> {
  yield hostNamespace;
  for (const directory of new Set([dirname(target), "/run/netns"])) {
    for (const name of entries(directory)) yield `${directory}/${name}`;
  }
  for (const name of entries("/proc")) if (/^\d+$/.test(name)) yield `/proc/${name}/ns/net`;
}

/**
 * The VXLAN device that holds the VNI and port that a device to be made in `target` wants, its underlay being the host's
 * stack; undefined where it is in a namespace that cannot be found.
 */
export const findSegmentOwner = (
  namespaces: Namespaces,
  target: NamespaceRef,
  segment: Pick<Segment, "vni" | "port">,
): SegmentOwner | undefined => {
  const seen = new Set<number>();
  for (const namespace of candidates(target)) {
    if (seen.size >= limit) return undefined;
    const inode = inodeOf(namespaces, namespace);
    if (inode === undefined || seen.has(inode)) continue;
    seen.add(inode);
    const link = linksOf(namespaces, namespace).find(
      ({ vxlan, otherNamespace }) =>
        vxlan?.vni === segment.vni &&
        vxlan.port === segment.port &&
        // The host's own devices have their underlay at home, those elsewhere in another namespace.
        (otherNamespace === undefined) === (namespace === hostNamespace),
    );
    if (link) return { ...link, namespace };
  }
  return undefined;
};

/** Processes and namespaces may end while they are looked at. */
const inodeOf = (namespaces: Namespaces, namespace: NamespaceRef): number | undefined => {
  try {
    return namespaces.inode(namespace);
  } catch {
    return undefined;
  }
};

const linksOf = (namespaces: Namespaces, namespace: NamespaceRef): readonly DecodedLink[] => {
  try {
    return namespaces
      .socket(namespace)
      .dump({ type: rtm.GETLINK, body: ifinfo() })
      .map(({ body }) => decodeLink(body));
  } catch {
    return [];
  }
};
