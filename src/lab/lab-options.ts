import { badRequest, shown } from "../errors.ts";
import { firstPort, hostAddress, lan, maxHosts } from "./addresses.ts";
import { type ServerKind, type StoreKind, storeKinds } from "./lab-state.ts";

type Scalar = string | number | boolean;

export interface LabOptions {
  /** 1 to 32; 3 without it (1 with `embedded-single`). */
  readonly hosts?: number;
  /** `etcd` without it. */
  readonly store?: StoreKind;
  /** `lab` without it. */
  readonly name?: string;
  /** The first daemon's port on the caller's loopback; the others follow. */
  readonly port?: number;
  /** More keys for `[daemon]` and `[cluster]` of each host's configuration. */
  readonly daemon?: Readonly<Record<string, Scalar>>;
  readonly cluster?: Readonly<Record<string, Scalar>>;
}

export type LabPlan = Required<LabOptions>;

/** A lab's name becomes a directory's name. @throws NetworkError `lab-name` */
export const checkLabName = (name: string): string => {
  if (/^[a-z0-9][a-z0-9-]{0,31}$/.test(name)) return name;
  throw badRequest("lab-name", `invalid name of a lab: ${shown(name)}`, {
    hint: "it has 1 to 32 lower-case letters, digits and dashes, and begins with a letter or digit",
  });
};

/** @throws NetworkError `lab-name`, `lab-options` */
export const planLab = (options: LabOptions): LabPlan => {
  const store = options.store ?? "etcd";
  if (!storeKinds.includes(store)) {
    throw badRequest("lab-options", `unknown store ${shown(store)}: there are ${storeKinds.join(", ")}`);
  }
  const hosts = options.hosts ?? (store === "embedded-single" ? 1 : 3);
  if (!Number.isInteger(hosts) || hosts < 1 || hosts > maxHosts) {
    throw badRequest("lab-options", `a lab has 1 to ${maxHosts} hosts, not ${hosts}`);
  }
  if (store === "embedded-single" && hosts > 1) {
    throw badRequest("lab-options", "the embedded store is one host's own: embedded-single goes with --hosts 1", {
      hint: "several hosts share a store (--store etcd, --store consul) or go without (--store storeless)",
    });
  }
  const port = options.port ?? firstPort;
  if (!Number.isInteger(port) || port < 1 || port + hosts > 65_536) {
    throw badRequest("lab-options", `${port} is no port that ${hosts} hosts could be reached from`);
  }
  const { daemon = {}, cluster = {} } = options;
  return { hosts, store, name: checkLabName(options.name ?? "lab"), port, daemon, cluster };
};

/** Where the store listens, from inside. */
export const storeEndpoint = (kind: ServerKind): string => `${lan.store}:${kind === "consul" ? 8500 : 2379}`;

const table = (name: string, entries: Readonly<Record<string, Scalar>>): string =>
  // JSON's strings, numbers and booleans are TOML's too.
  [`[${name}]`, ...Object.entries(entries).map(([key, value]) => `${JSON.stringify(key)} = ${JSON.stringify(value)}`)]
    .map((line) => `${line}\n`)
    .join("");

/** The configuration of a host's daemon, as the walk-through has it. @param n from 1 */
export const daemonConfig = ({ hosts, store, daemon, cluster }: LabPlan, n: number): string => {
  const own = table("daemon", { debug: true, ...daemon });
  if (store === "embedded-single") return own;
  if (store === "storeless") {
    const others = Array.from({ length: hosts }, (_, index) => index + 1).filter((other) => other !== n);
    const peer = others.map(hostAddress).join(",");
    const orchestration = { agent: true, bind: hostAddress(n), ...(peer !== "" && { peer }) };
    return [
      own,
      ...(Object.keys(cluster).length > 0 ? [table("cluster", cluster)] : []),
      table("orchestration", orchestration),
    ].join("\n");
  }
  const address = `${storeEndpoint(store)}/dnet`;
  return [
    own,
    table("cluster", { discovery: `${store}://${address}`, Address: hostAddress(n), Heartbeat: 10, ...cluster }),
    table("scopes.global.client", { provider: store, address }),
  ].join("\n");
};
