import { errorText } from "../../errors.ts";
import { Backoff, pause } from "../backoff.ts";
import { type JoinAddress, joinText } from "../join-address.ts";
import type { Log } from "../log.ts";
import type { AgentAccess } from "./agent.ts";
import type { Member } from "./messages.ts";
import { standardSerfPort } from "./ports.ts";
import { SerfRpcClient } from "./rpc-client.ts";

export interface JoinerOptions {
  /** Port of addresses that name none. */
  readonly port?: number;
  /** How the log calls where the addresses come from: `consul`. */
  readonly discovery: string;
  readonly log: Log;
  readonly members: () => readonly Member[];
  /** Called when somebody was joined: there are new members. */
  readonly onJoined: (client: SerfRpcClient, signal: AbortSignal) => Promise<void>;
}

/** Addresses that are joined in one call; serf tries them one after the other, up to 10 s each. */
const batchSize = 5;
/** Milliseconds. */
const timeout = 60_000;
const longPause = 30_000;
const maxRemembered = 10_000;

/** Joins what discovery shows and is no member yet, now and again. One member that answers is enough: it tells of the others. */
export class Joiner {
  readonly #options: JoinerOptions;
  readonly #backoff = new Backoff(1_000, longPause);
  /** Addresses whose joining has been told. */
  readonly #told = new Set<string>();
  #addresses: readonly string[] = [];
  #wake: () => void = () => undefined;

  constructor(options: JoinerOptions) {
    this.#options = options;
  }

  /** What discovery shows now. */
  setAddresses(addresses: readonly JoinAddress[]): void {
    const texts = addresses.map((address) => joinText(address, this.#options.port ?? standardSerfPort));
    if (texts.join() === this.#addresses.join()) return;
    this.#addresses = texts;
    this.#backoff.reset();
    this.#wake();
  }

  /** Keeps an agent joined until the signal aborts. */
  async run(access: AgentAccess, signal: AbortSignal): Promise<void> {
    this.#told.clear();
    this.#backoff.reset();
    while (!signal.aborted) {
      const wake = new AbortController();
      this.#wake = () => wake.abort();
      const missing = this.#missing(access);
      // A host name cannot be compared with a member's address: it is joined again after each long pause, which costs little.
      const complete = missing.length === 0 || (await this.#attempt(access, missing, signal));
      if (complete) this.#backoff.reset();
      await pause(complete ? longPause : this.#backoff.next(), AbortSignal.any([signal, wake.signal]));
    }
  }

  /** Where an agent finds again whom the one before it knew. */
  async rejoin(client: SerfRpcClient, access: AgentAccess, signal: AbortSignal): Promise<void> {
    const alive = this.#options.members().filter(({ name, status }) => name !== access.name && status === "alive");
    await this.#join(client, access, alive.map(placeOf), signal);
  }

  /** Addresses of discovery that are neither this agent nor a member that is alive. */
  #missing(access: AgentAccess): readonly string[] {
    const there = this.#options.members().filter(({ name, status }) => status === "alive" || name === access.name);
    const places = new Set(there.map(placeOf));
    return this.#addresses.filter((text) => !places.has(text));
  }

  /** @returns whether everybody answered who was asked */
  async #attempt(access: AgentAccess, missing: readonly string[], signal: AbortSignal): Promise<boolean> {
    let client: SerfRpcClient | undefined;
    try {
      // A connection of its own: serf answers one request after the other, and an address that is dead takes its time.
      client = await SerfRpcClient.connect({
        host: "127.0.0.1",
        port: access.rpcPort,
        authKey: access.authKey,
        signal,
      });
      return await this.#join(client, access, missing, signal);
    } catch (error) {
      if (!signal.aborted) this.#options.log("debug", `serf: ${errorText(error)}`);
      return false;
    } finally {
      client?.close();
    }
  }

  async #join(
    client: SerfRpcClient,
    access: AgentAccess,
    all: readonly string[],
    signal: AbortSignal,
  ): Promise<boolean> {
    const { log, discovery, onJoined } = this.#options;
    // Not always the same ones first, when there are many and some are dead.
    const start = Math.floor(Math.random() * all.length);
    const batch = [...all.slice(start), ...all.slice(0, start)].slice(0, batchSize);
    if (batch.length === 0) return true;
    const { joined, complaint } = await client.join(batch, timeout, signal);
    const message = `joined ${joined} of ${batch.length} nodes: ${batch.join(", ")}`;
    log("debug", complaint === "" ? message : `${message}; ${complaint}`, { discovery });
    if (joined > 0) {
      const news = batch.filter((text) => !this.#told.has(text));
      if (news.length > 0) log("info", `${access.name} joined the cluster at ${news.join(", ")}`, { discovery });
      for (const text of news) if (this.#told.size < maxRemembered) this.#told.add(text);
      await onJoined(client, signal);
    }
    return joined === batch.length;
  }
}

const placeOf = ({ address, port }: Member): string => joinText({ host: address, port }, port);
