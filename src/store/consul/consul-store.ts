import { badRequest, NetworkError } from "../../errors.ts";
import { parseStoreAddress } from "../address.ts";
import { closedStore } from "../checks.ts";
import { HttpClient, type HttpClientOptions } from "../http-client.ts";
import type { Lease, Store, StoreEntry, Transaction, TransactionResult, WatchEvent } from "../store.ts";
import { checkTls, type TlsOptions } from "../tls-options.ts";
import { away, ConsulClient, LostAnswer } from "./consul-client.ts";
import { ConsulFollower } from "./consul-follower.ts";
import { isReserved, parseRevision, revisionKey, toEntry } from "./consul-layout.ts";
import { markRequest } from "./consul-operations.ts";
import { ConsulWatch, type Snapshot } from "./consul-watch.ts";
import { ConsulWriter, leaseLost, refused } from "./consul-writer.ts";

export interface ConsulStoreOptions {
  /** `host:port[/prefix]` of an agent, or of several: the next one is asked where one cannot be reached. */
  readonly address: string | readonly string[];
  /** Below which keys everything lies; by default the one of the address, else `dnet`. */
  readonly prefix?: string;
  /** ACL token; it needs write on the prefix's keys and on sessions. */
  readonly token?: string;
  readonly datacenter?: string;
  /** Contents of PEM files. */
  readonly tls?: TlsOptions;
  /** Milliseconds until a request without answer is given up. */
  readonly timeout?: number;
}

/** Milliseconds; with it a change fails within two seconds where the store is away. */
const standardTimeout = 1_500;
const standardPrefix = "dnet";
/** Seconds; what Consul takes as a session's TTL. */
const shortestTtl = 10;
const longestTtl = 86_400;

/** Codes of refusals that may mean that nobody tells us what changes any more. */
const isTrouble: ReadonlySet<string> = new Set(["store-unavailable", "store-forbidden"]);

/** A store in Consul (HTTP API v1; tried with 1.8.7). The layout of its keys is in consul-layout.ts. */
export class ConsulStore implements Store {
  readonly #http: HttpClient;
  readonly #client: ConsulClient;
  readonly #writer: ConsulWriter;
  readonly #timeout: number;
  /** With the slash at its end. */
  readonly #prefix: string;
  readonly #watches = new Set<ConsulWatch>();
  readonly #closing = new AbortController();
  #follower: ConsulFollower | undefined;

  private constructor(options: HttpClientOptions, datacenter: string | undefined, prefix: string, timeout: number) {
    this.#http = new HttpClient(options);
    this.#client = new ConsulClient(this.#http, { datacenter });
    this.#writer = new ConsulWriter(this.#client, { prefix, timeout });
    this.#prefix = prefix;
    this.#timeout = timeout;
  }

  /**
   * Asks nothing yet: a server that is away fails what is asked of it, and a watch tells that it is lost.
   * @throws NetworkError `invalid-store-address`, `invalid-store-options` (bad request)
   */
  static async open(options: ConsulStoreOptions): Promise<ConsulStore> {
    const given = typeof options.address === "string" ? [options.address] : options.address;
    const addresses = given.map(parseStoreAddress);
    const [first] = addresses;
    if (!first) throw badRequest("invalid-store-address", "invalid store address: there is none");
    const { prefix } = parseStoreAddress(`${first.server}/${options.prefix ?? (first.prefix || standardPrefix)}`);
    if (prefix === "")
      throw badRequest("invalid-store-options", "invalid options of the consul store: the prefix is empty");
    const { token, datacenter, tls, timeout = standardTimeout } = options;
    const fail = (reason: string, cause?: unknown) =>
      badRequest("invalid-store-options", `invalid options of the consul store: ${reason}`, { cause });
    if (token !== undefined && !/^[\x21-\x7e]{1,512}$/.test(token))
      throw fail("the token has characters it cannot have");
    if (datacenter !== undefined && !/^[\w-]{1,128}$/.test(datacenter)) throw fail("the datacenter is no name of one");
    checkTls(tls, fail);
    const servers = addresses.map(({ server }) => server);
    const headers = token === undefined ? {} : { "x-consul-token": token };
    return new ConsulStore({ servers, headers, timeout, ...(tls && { tls }) }, datacenter, `${prefix}/`, timeout);
  }

  async get(key: string, signal?: AbortSignal): Promise<StoreEntry | undefined> {
    this.#open();
    if (isReserved(key)) return undefined;
    const [found] = (await this.#watched(this.#client.read({ keys: [this.#prefix + key] }, { signal }))) ?? [];
    return found && toEntry(this.#prefix, found);
  }

  async list(prefix: string, signal?: AbortSignal): Promise<readonly StoreEntry[]> {
    this.#open();
    return (await this.#watched(this.#snapshot(prefix, signal))).entries;
  }

  async #snapshot(prefix: string, signal: AbortSignal | undefined): Promise<Snapshot> {
    const revision = this.#prefix + revisionKey;
    const trees = [revision, ...(isReserved(prefix) ? [] : [this.#prefix + prefix])];
    const found = (await this.#client.read({ trees }, { signal })) ?? [];
    const at = parseRevision(found.find(({ key }) => key === revision));
    const ours = found.filter(
      ({ key }) => key.startsWith(this.#prefix + prefix) && !isReserved(key.slice(this.#prefix.length)),
    );
    return {
      sequence: at.sequence,
      version: at.index,
      entries: ours.map((pair) => toEntry(this.#prefix, pair)),
      leases: new Map(
        ours.flatMap(({ key, session }) => (session === undefined ? [] : [[key.slice(this.#prefix.length), session]])),
      ),
    };
  }

  async transact(transaction: Transaction, signal?: AbortSignal): Promise<TransactionResult> {
    this.#open();
    return this.#watched(this.#writer.transact(transaction, signal));
  }

  async version(signal?: AbortSignal): Promise<number> {
    this.#open();
    return parseRevision(await this.#watched(this.#client.get(this.#prefix + revisionKey, { signal }))).index;
  }

  watch(prefix: string, signal: AbortSignal): AsyncIterable<WatchEvent> {
    this.#open();
    return this.#watch(prefix, signal);
  }

  async *#watch(prefix: string, signal: AbortSignal): AsyncIterable<WatchEvent> {
    const watch = new ConsulWatch(prefix, (signal) => this.#snapshot(prefix, signal));
    this.#watches.add(watch);
    this.#follower ??= new ConsulFollower(this.#client, {
      prefix: this.#prefix,
      tell: (told) => {
        for (const one of this.#watches) one.tell(told);
      },
      learn: (position) => this.#writer.learn(position),
    });
    const { state } = this.#follower;
    if (state) watch.tell(state);
    try {
      yield* watch.events(AbortSignal.any([signal, this.#closing.signal]));
    } finally {
      this.#watches.delete(watch);
      if (this.#watches.size === 0) {
        const follower = this.#follower;
        this.#follower = undefined;
        await follower?.stop();
      }
    }
  }

  async lease(ttl: number, signal?: AbortSignal): Promise<Lease> {
    this.#open();
    const end = performance.now() + this.#timeout;
    const limits = () => ({ timeout: end - performance.now(), signal });
    const seconds = Math.min(longestTtl, Math.max(shortestTtl, Math.ceil(ttl / 1000)));
    const id = await this.#watched(this.#client.createSession(seconds, limits()));
    try {
      const mark = await this.#client.commit(markRequest(this.#prefix, id, seconds * 1000), limits());
      if (!mark.ok) throw refused(mark.server, mark.refusals[0]?.reason ?? "");
    } catch (error) {
      // Without its mark nobody would see it end; it goes by itself where this does not reach the server.
      await this.#client.destroySession(id).catch(() => undefined);
      throw error instanceof LostAnswer ? away(error.server, error.reason, error) : error;
    }
    return {
      id,
      renew: async (signal) => {
        this.#open();
        if (!(await this.#watched(this.#client.renewSession(id, { signal })))) throw leaseLost();
      },
      revoke: async (signal) => {
        this.#open();
        await this.#watched(this.#client.destroySession(id, { signal }));
      },
    };
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    this.#writer.close();
    const follower = this.#follower;
    this.#follower = undefined;
    await follower?.stop();
    this.#http.close();
  }

  #open(): void {
    if (this.#closing.signal.aborted) throw closedStore();
  }

  /** A request that fails makes the follower look whether the store is still there. */
  async #watched<T>(request: Promise<T>): Promise<T> {
    try {
      return await request;
    } catch (error) {
      if (error instanceof LostAnswer || (error instanceof NetworkError && isTrouble.has(error.code))) {
        this.#follower?.suspect();
      }
      throw error;
    }
  }
}
