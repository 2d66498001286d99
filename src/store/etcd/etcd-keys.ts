import { prefixEnd } from "../checks.ts";
import { base64 } from "./etcd-messages.ts";

/** Written by every transaction, so that one key tells the version of the store, whoever else uses the same etcd. */
const revisionName = ".revision";
/** Made once: tells this store from an empty or older one that takes its place at the same address. */
const identityName = ".id";

/** Where in etcd the store's keys are: `<prefix>/<key>`, as text that `etcdctl get --prefix <prefix>/` shows. */
export class EtcdKeys {
  readonly #root: string;
  readonly #rootBytes: Buffer;
  readonly revision: string;
  readonly identity: string;

  constructor(prefix: string) {
    this.#root = `${prefix}/`;
    this.#rootBytes = Buffer.from(this.#root);
    this.revision = this.encode(revisionName);
    this.identity = this.encode(identityName);
  }

  encode(key: string): string {
    return base64(this.#root + key);
  }

  /** @returns the store's name of a key; undefined where it is none of its keys, or one that only we read */
  decode(bytes: Buffer): string | undefined {
    if (!bytes.subarray(0, this.#rootBytes.length).equals(this.#rootBytes)) return undefined;
    const rest = bytes.subarray(this.#rootBytes.length);
    const key = rest.toString();
    return isInternal(key) || !Buffer.from(key).equals(rest) ? undefined : key;
  }

  /** The range of all keys that begin with a prefix; from `after` (excluded), where given. */
  below(prefix: string, after?: Buffer): { readonly key: string; readonly range_end: string } {
    const start = after ? Buffer.concat([after, Buffer.of(0)]) : Buffer.from(this.#root + prefix);
    // The root is not empty, so there is an end.
    return { key: base64(start), range_end: base64(prefixEnd(this.#root + prefix) ?? Buffer.of(0)) };
  }
}

export const isInternal = (key: string): boolean => key === revisionName || key === identityName;
