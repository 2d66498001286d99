import { badRequest } from "../../errors.ts";
import { parseStoreAddress } from "../address.ts";
import { checkTls, type TlsOptions } from "../tls-options.ts";
import type { EtcdClientOptions } from "./etcd-client.ts";

export interface EtcdStoreOptions {
  /** `host:port[/prefix]` of a server, or of several: the next one is asked where one cannot be reached. */
  readonly address: string | readonly string[];
  /** Below which keys everything lies; by default the one of the first address, else `dnet`. */
  readonly prefix?: string;
  /** Where etcd has authentication: needs a role with `readwrite` on the prefix. */
  readonly username?: string;
  readonly password?: string;
  /** Contents of PEM files. */
  readonly tls?: TlsOptions;
  /** Milliseconds until a request without answer is given up. */
  readonly timeout?: number;
}

const standardPrefix = "dnet";

/** @throws NetworkError `invalid-store-address`, `invalid-store-options` (bad request) */
export const checkOptions = (options: EtcdStoreOptions): { prefix: string; client: EtcdClientOptions } => {
  const { address, username, password, tls, timeout } = options;
  const fail = (reason: string, cause?: unknown) =>
    badRequest("invalid-store-options", `invalid options of the etcd store: ${reason}`, { cause });
  const addresses = (typeof address === "string" ? [address] : address).map(parseStoreAddress);
  const [first] = addresses;
  if (!first) throw badRequest("invalid-store-address", "invalid store address: there is none");
  const { prefix } = parseStoreAddress(`${first.server}/${options.prefix ?? (first.prefix || standardPrefix)}`);
  if (prefix === "") throw fail("the prefix is empty");
  if (username === "") throw fail("the user has no name");
  if (username === undefined && password !== undefined) throw fail("there is a password, but no user");
  checkTls(tls, fail);
  return {
    prefix,
    client: {
      servers: addresses.map(({ server }) => server),
      ...(username !== undefined && { username }),
      ...(password !== undefined && { password }),
      ...(tls && { tls }),
      ...(timeout !== undefined && { timeout }),
    },
  };
};
