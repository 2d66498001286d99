import { execFileSync } from "node:child_process";
import type { Store } from "../../src/store/store.ts";

/** What there is on the host and in the stores, in lines that are the same whatever ids objects have. */

const script = `
ip -o -d link | grep -v ' lo:'
ip -o address
ip route; ip -6 route; ip rule
nft list ruleset
for file in $(ls /run/docker/netns 2>/dev/null | sort); do
  echo "namespace $file"
  nsenter --net=/run/docker/netns/$file sh -c 'ip -o -d link | grep -v " lo:"; ip -o address; ip route; ip -6 route; bridge fdb; ip neigh; nft list ruleset' 2>&1
done
(cd /var/lib/docker/network/files 2>/dev/null && for file in */*; do echo "$file"; cat "$file"; done)
true`;

/** Ids, indexes, link-layer addresses and ports of the kernel's choice differ each time; what they are attached to does not. */
const withoutIds = (line: string): string =>
  line
    .replace(/^\d+: /, "")
    .replace(/fe80::[0-9a-f:]+/g, "fe80::*")
    .replace(/@if\d+/g, "")
    .replace(/link-netnsid \d+|link-netns \S+/g, "")
    .replace(/\b(hello|tcn|topology_change|gc|bridge)_timer +\S+/g, "")
    .replace(/(bridge_id|designated_root|designated_bridge) \S+/g, "$1")
    .replace(/\b(([0-9a-f]{2}:){5}[0-9a-f]{2})\b/g, "mac")
    .replace(/port_id \S+|port_no \S+|designated_port \S+/g, "")
    .replace(/\b(dpt|dport) (3[2-9]|[456])\d{3}\b/g, "$1 port")
    .replace(/(127\.0\.0\.11)[: .]+\d+/g, "$1:port")
    .replace(/[0-9a-f]{8,64}/g, "#")
    .replace(/\s+/g, " ")
    .trim();

/** @returns sorted lines */
export const hostView = async (stores: readonly Store[]): Promise<string> => {
  const seen = execFileSync("sh", ["-c", script], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  const lines = seen
    .split("\n")
    .filter((line) => !/proto kernel_ll|scope link tentative|FAILED|STALE|REACHABLE|DELAY|INCOMPLETE|PROBE/.test(line));
  const keys: string[] = [];
  for (const [n, store] of stores.entries()) for (const { key } of await store.list("")) keys.push(`store ${n} ${key}`);
  return [...lines.map(withoutIds), ...keys.map(withoutIds)]
    .filter((line) => line !== "")
    .sort()
    .join("\n");
};

/** Lines of two views that are not in both. */
export const difference = (before: string, after: string): readonly string[] => {
  const rest = after.split("\n");
  const missing = before.split("\n").filter((line) => {
    const at = rest.indexOf(line);
    if (at >= 0) rest.splice(at, 1);
    return at < 0;
  });
  return [...missing.map((line) => `- ${line}`), ...rest.map((line) => `+ ${line}`)];
};
