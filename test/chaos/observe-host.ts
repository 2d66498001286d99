// Prints what the kernel of a host has of networks as JSON. Runs on a host of a lab.
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";

export interface ObservedLink {
  readonly name: string;
  readonly alias: string;
  /** With their length; not those of the link itself. */
  readonly addresses: readonly string[];
}

export interface ObservedNamespace {
  readonly name: string;
  readonly links: readonly ObservedLink[];
  /** Of VXLAN devices: MAC and the host behind it. */
  readonly forwarding: readonly string[];
  /** Of VXLAN devices: address and MAC. */
  readonly neighbors: readonly string[];
}

export interface ObservedHost {
  readonly host: ObservedNamespace;
  readonly namespaces: readonly ObservedNamespace[];
}

type Row = Readonly<Record<string, unknown>>;
const directory = "/var/run/docker/netns";

const observe = (name: string, ...enter: readonly string[]): ObservedNamespace => {
  const rows = (...command: readonly string[]): readonly Row[] => {
    const [program = "", ...args] = [...enter, ...command];
    return JSON.parse(execFileSync(program, args, { encoding: "utf8" }) || "[]") as readonly Row[];
  };
  const text = (row: Row, key: string) => String(row[key] ?? "");
  return {
    name,
    links: rows("ip", "-j", "address").map((row) => ({
      name: text(row, "ifname"),
      alias: text(row, "ifalias"),
      addresses: ((row.addr_info ?? []) as readonly Row[])
        .filter((address) => address.scope === "global")
        .map((address) => `${text(address, "local")}/${text(address, "prefixlen")}`),
    })),
    forwarding: rows("bridge", "-j", "fdb", "show")
      .filter((row) => "dst" in row)
      .map((row) => `${text(row, "mac")} ${text(row, "dst")}`),
    neighbors: rows("ip", "-j", "neighbor", "show", "nud", "permanent")
      .filter((row) => text(row, "dev").startsWith("vxlan"))
      .map((row) => `${text(row, "dst")} ${text(row, "lladdr")}`),
  };
};

/** A file that is no namespace yet, or no more, is one with nothing in it: whoever waits for rest looks again. */
const observeNamespace = (name: string): ObservedNamespace => {
  try {
    return observe(name, "nsenter", `--net=${directory}/${name}`);
  } catch {
    return { name, links: [], forwarding: [], neighbors: [] };
  }
};

if (import.meta.main) {
  const observed: ObservedHost = { host: observe("host"), namespaces: readdirSync(directory).map(observeNamespace) };
  process.stdout.write(JSON.stringify(observed));
}
