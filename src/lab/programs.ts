import { accessSync, constants, existsSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { noService } from "../errors.ts";
import type { StoreKind } from "./lab-state.ts";

/** Programs that a lab runs, and the Debian packages that have them. */

const packages = {
  unshare: "util-linux",
  nsenter: "util-linux",
  mount: "mount",
  hostname: "hostname",
  ip: "iproute2",
  nft: "nftables",
  etcd: "etcd-server",
  etcdctl: "etcd-client",
  serf: "serf",
} as const;
type Program = keyof typeof packages;

/** PATH with the system's directories, which an ordinary user's may lack. */
export const searchPath = (): string => {
  const given = (process.env.PATH ?? "").split(delimiter).filter((part) => part.startsWith("/"));
  const system = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
  return [...given, ...system.filter((part) => !given.includes(part))].join(delimiter);
};

const executable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
};

const find = (program: string): string | undefined =>
  searchPath()
    .split(delimiter)
    .map((directory) => join(directory, program))
    .find(executable);

/** @throws NetworkError `no-program` that names the packages to install */
export const requirePrograms = (store: StoreKind): void => {
  const always: readonly Program[] = ["unshare", "nsenter", "mount", "hostname", "ip", "nft"];
  const more: Partial<Record<StoreKind, readonly Program[]>> = { etcd: ["etcd", "etcdctl"], storeless: ["serf"] };
  const needed = [...always, ...(more[store] ?? [])];
  const missing = needed.filter((program) => find(program) === undefined);
  if (missing.length > 0) {
    const names = [...new Set(missing.map((program) => packages[program]))].join(" ");
    throw noService("no-program", `the lab needs programs that are not there: ${missing.join(", ")}`, {
      hint: `install Debian's ${names}: apt-get install ${names}`,
    });
  }
  if (store === "consul") findConsul();
};

/** The directory that has `bin/dnet`: above the sources, and above the bundle. */
export const projectRoot = (): string => {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, "bin", "dnet"))) {
    const above = dirname(directory);
    if (above === directory) throw noService("no-program", "the lab's hosts run bin/dnet, which is not there");
    directory = above;
  }
  return directory;
};

/** Consul's binary: `DNET_CONSUL`, PATH, or what `scripts/consul.sh` fetched. @throws NetworkError `no-program` */
export const findConsul = (): string => {
  const asked = process.env.DNET_CONSUL;
  if (asked !== undefined && asked !== "") {
    if (executable(asked)) return asked;
    throw noService("no-program", `DNET_CONSUL names ${asked}, which is no program`);
  }
  const fetched = join(projectRoot(), ".cache", "consul", "consul");
  const found = find("consul") ?? (executable(fetched) ? fetched : undefined);
  if (found !== undefined) return found;
  throw noService("no-program", "the lab needs a program that is not there: consul", {
    hint: "scripts/consul.sh fetches it; or put it into PATH, or name it in DNET_CONSUL; --store etcd goes without",
  });
};
