import { execFileSync } from "node:child_process";
import type { Store } from "../../src/store/store.ts";

/** What there is on the host and in the stores, in lines that are the same whatever ids objects have. */

/** Few processes: this is done thousands of times. */
export const hostViewScript = `
see() {
  printf '%s\\n' 'link show' 'address show' 'route show table main' 'rule show' 'neigh show nud permanent' | $1 ip -o -d -b - 2>&1
  $1 ip -6 -o route show table main
  $1 nft -s list ruleset
}
see
ss -Htuln | awk '{ print $1, $5 }'
cd /run/docker/netns 2>/dev/null && for file in *; do
  [ -e "$file" ] || continue
  echo "namespace $file"
  [ "$file" = default ] && continue
  see "nsenter --net=$file"
  case $file in 1-*) nsenter --net=$file bridge fdb ;; esac
done
cd /var/lib/docker/network/files 2>/dev/null && grep -r '' .
true`;

/** Carriers come a moment later. Ids, indexes, link-layer addresses and ports of the kernel's choice differ each time; what they are attached to does not. */
const withoutIds = (line: string): string =>
  line
    .replace(/^\d+: /, "")
    .replace(/@if\d+/g, "")
    .replace(/link-netnsid \d+|link-netns \S+/g, "")
    .replace(/bridge forward_delay .*?(\\ +alias|$)/, "bridge $1")
    .replace(/bridge_slave .*?(hairpin \w+) .*?(\\ +alias|$)/, "bridge_slave $1 $2")
    .replace(/<([^>]*)>/, (_, flags: string) => (flags.split(",").includes("UP") ? "<UP>" : "<>"))
    .replace(/ state \w+| (promiscuity|allmulti) \d+| linkdown/g, "")
    .replace(/\b(([0-9a-f]{2}:){5}[0-9a-f]{2})\b/g, "mac")
    .replace(/\b(dpt|dport) (3[2-9]|[456])\d{3}\b/g, "$1 port")
    .replace(/(127\.0\.0\.11)[: .]+\d+/g, "$1:port")
    .replace(/^tcp 127\.0\.0\.1:\d{5}$/, "tcp 127.0.0.1:port")
    .replace(/[0-9a-f]{8,64}/g, "#")
    .replace(/\s+/g, " ")
    .trim();

/** @returns sorted lines of what the script printed, and the keys of stores */
export const viewLines = (seen: string, keys: readonly string[] = []): string => {
  const lines = seen
    // Which ports' last one leaves empty, and a start takes away.
    .replace(/table bridge \S+ \{\n[\s\S]*?\n\}\n/g, (table) => (table.includes("elements = {") ? table : ""))
    .split("\n")
    .filter((line) => !/fe80::/.test(line));
  return [...lines, ...keys]
    .map(withoutIds)
    .filter((line) => line !== "")
    .sort()
    .join("\n");
};

/** The host that this process is on. @returns sorted lines */
export const hostView = async (stores: readonly Store[]): Promise<string> => {
  const seen = execFileSync("sh", ["-c", hostViewScript], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  const keys: string[] = [];
  for (const [n, store] of stores.entries()) for (const { key } of await store.list("")) keys.push(`store ${n} ${key}`);
  return viewLines(seen, keys);
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
