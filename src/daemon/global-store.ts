import { readFileSync } from "node:fs";
import * as z from "zod";
import { badRequest, errorText } from "../errors.ts";
import { parseStoreAddress } from "../store/address.ts";
import { ConsulStore } from "../store/consul/consul-store.ts";
import { EtcdStore } from "../store/etcd/etcd-store.ts";
import type { Store } from "../store/store.ts";

/** The store that a cluster shares, as the configuration names it. */

export const providers = ["consul", "etcd"] as const;
export type Provider = (typeof providers)[number];

const text = z.string().max(4096);

/** `[scopes.global.client.config]`: secrets can be given in files, PEM files are given by their paths. */
export const storeConfigSchema = z.strictObject({
  /** Consul: an ACL token, and the datacenter to ask. */
  token: text.optional(),
  tokenFile: text.optional(),
  datacenter: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/)
    .optional(),
  /** etcd: a user. */
  username: text.optional(),
  password: text.optional(),
  passwordFile: text.optional(),
  /** PEM files: who signed the server's certificate, and a certificate of one's own with its key. */
  caFile: text.optional(),
  certFile: text.optional(),
  keyFile: text.optional(),
});
export type StoreConfig = z.infer<typeof storeConfigSchema>;

export interface StoreClient {
  readonly provider: Provider;
  /** `host:port[,host:port...][/prefix]` */
  readonly address: string;
  readonly config?: StoreConfig | undefined;
}

/**
 * Opens the store; one that is away shows later, when it is asked.
 * @throws NetworkError `invalid-store-address`, `no-store-file`
 */
export const openGlobalStore = async ({ provider, address, config = {} }: StoreClient): Promise<Store> => {
  const at = address.indexOf("/");
  const path = at < 0 ? "" : address.slice(at);
  const hosts = (at < 0 ? address : address.slice(0, at)).split(",");
  const places = hosts.map((host) => parseStoreAddress(`${host.trim()}${path}`));
  const prefix = places[0]?.prefix || "dnet";
  const tls = tlsOf(config);
  if (provider === "consul") {
    const token = secretOf(config.token, config.tokenFile);
    return ConsulStore.open({
      address: places.map(({ server }) => `${server}/${prefix}`),
      prefix,
      ...(token !== undefined && { token }),
      ...(config.datacenter !== undefined && { datacenter: config.datacenter }),
      ...(tls && { tls }),
    });
  }
  const password = secretOf(config.password, config.passwordFile);
  return EtcdStore.open({
    address: places.map(({ server }) => `${server}/${prefix}`),
    prefix,
    ...(config.username !== undefined && { username: config.username }),
    ...(password !== undefined && { password }),
    ...(tls && { tls }),
  });
};

const tlsOf = ({ caFile, certFile, keyFile }: StoreConfig) =>
  caFile === undefined && certFile === undefined
    ? undefined
    : {
        ...(caFile !== undefined && { ca: contents(caFile) }),
        ...(certFile !== undefined && { cert: contents(certFile) }),
        ...(keyFile !== undefined && { key: contents(keyFile) }),
      };

const secretOf = (given: string | undefined, file: string | undefined): string | undefined =>
  file === undefined ? given : contents(file).trim();

const contents = (path: string): string => {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw badRequest("no-store-file", `a file of [scopes.global.client.config] cannot be read: ${errorText(cause)}`, {
      cause,
    });
  }
};
