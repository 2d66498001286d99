import { readdirSync, readFileSync } from "node:fs";
import type { Namespaces } from "./namespaces.ts";
import { type DecodedLink, decodeLink, getLinkRequest } from "./netlink/link.ts";
import { namespaceId } from "./netlink/namespace-id.ts";
import type { NetlinkSocket } from "./netlink/socket.ts";
import type { LinkSpec, NamespaceRef } from "./plan.ts";

/** Who holds a VNI: the kernel says only that somebody does. */

export type Segment = Extract<LinkSpec, { kind: "vxlan" }>;
export type SegmentOwner = DecodedLink & { readonly namespace: NamespaceRef };

/** Namespaces that are looked into, at most. */
const limit = 4096;

/** Where network namespaces are mounted: column 4 of mountinfo is `net:[inode]` (proc(5)), column 5 the path. */
const mounted = (): readonly string[] =>
  readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" "))
    .flatMap(([, , , root, path]) => (root?.startsWith("net:[") && path ? [path.replaceAll("\\040", " ")] : []));

/** The underlay, the namespaces with a name, and those in which a process lives. */
function* candidates(underlay: NamespaceRef): Iterable<NamespaceRef> {
  yield underlay;
  yield* mounted();
  for (const name of readdirSync("/proc")) if (/^\d+$/.test(name)) yield `/proc/${name}/ns/net`;
}

/**
 * The VXLAN device that holds the VNI and port that a device to be made in `target` wants; undefined where it is in a namespace
 * that cannot be found.
 */
export const findSegmentOwner = (
  namespaces: Namespaces,
  target: NamespaceRef,
  segment: Pick<Segment, "vni" | "port" | "underlay">,
): SegmentOwner | undefined => {
  const { vni, port, underlay = target } = segment;
  const seen = new Set<number>();
  for (const namespace of candidates(underlay)) {
    if (seen.size >= limit) return undefined;
    const inode = orUndefined(() => namespaces.inode(namespace));
    if (inode === undefined || seen.has(inode)) continue;
    const home = seen.size === 0;
    seen.add(inode);
    const link = orUndefined(() => {
      const socket = namespaces.socket(namespace);
      const devices = linksOf(socket).filter(({ vxlan }) => vxlan?.vni === vni && vxlan.port === port);
      if (devices.length === 0) return undefined;
      // A device's packets leave through its own namespace or through the one whose number it carries.
      const number = home ? undefined : namespaceId(socket, namespaces.fd(underlay));
      return devices.find(({ otherNamespace }) => otherNamespace === number && (home || number !== undefined));
    });
    if (link) return { ...link, namespace };
  }
  return undefined;
};

const linksOf = (socket: NetlinkSocket): readonly DecodedLink[] =>
  socket.dump(getLinkRequest()).map(({ body }) => decodeLink(body));

/** Processes and namespaces may end while they are looked at. */
const orUndefined = <T>(look: () => T): T | undefined => {
  try {
    return look();
  } catch {
    return undefined;
  }
};
