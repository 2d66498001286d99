import { errorText, noService } from "../../errors.ts";
import { Backoff, pause } from "../backoff.ts";
import { EventQueue } from "../event-queue.ts";
import { type JoinAddress, joinText } from "../join-address.ts";
import type { Log } from "../log.ts";
import type { AgentAccess } from "./agent.ts";
import { roundTrip } from "./coordinate.ts";
import { Handlers, type QueryHandler, type UserEventHandler } from "./handlers.ts";
import { Joiner, type JoinerOptions } from "./joiner.ts";
import { type MembershipEvent, MemberTable } from "./member-table.ts";
import type { Member, SerfEvent } from "./messages.ts";
import { SerfRpcClient } from "./rpc-client.ts";

export interface MembershipOptions extends Pick<JoinerOptions, "port" | "discovery"> {
  readonly log: Log;
  /** Milliseconds between two full looks at the members and their coordinates. */
  readonly interval?: number;
}

export interface QueryAnswer {
  /** Name of the member. */
  readonly from: string;
  readonly payload: Buffer;
}

/** Events that may wait for one reader of `events()`. */
const maxWaiting = 10_000;
/** Members whose round-trip time is asked for in one look. */
const maxCoordinates = 1_000;

/**
 * Follows a serf agent's membership, joins what discovery shows, and passes user events and queries on. The agent may die and come
 * back (`agentUp`, `agentDown`): members, handlers and readers stay.
 */
export class Membership {
  readonly #options: MembershipOptions;
  readonly #table = new MemberTable();
  readonly #handlers: Handlers;
  readonly #joiner: Joiner;
  readonly #readers = new Set<EventQueue<MembershipEvent>>();
  readonly #listeners = new Set<() => void>();
  readonly #rtts = new Map<string, number>();
  #client: SerfRpcClient | undefined;
  /** Ends what follows one agent. */
  #session: AbortController | undefined;
  #running: Promise<unknown> = Promise.resolve();
  /** The agent has just started and does not know yet whom the one before it knew. */
  #newAgent = true;
  #closed = false;

  constructor(options: MembershipOptions) {
    this.#options = options;
    this.#handlers = new Handlers(options.log);
    this.#joiner = new Joiner({
      ...options,
      members: () => this.members(),
      onJoined: (client, signal) => this.#sync(client, signal),
    });
  }

  agentUp(access: AgentAccess): void {
    this.#session?.abort();
    if (this.#closed) return;
    const session = new AbortController();
    this.#session = session;
    this.#newAgent = true;
    const { signal } = session;
    this.#running = Promise.all([this.#running, this.#follow(access, signal), this.#joiner.run(access, signal)]);
  }

  agentDown(): void {
    this.#session?.abort();
    this.#session = undefined;
    this.#changed();
  }

  /** True while the members are followed; otherwise they are those of the last look. */
  get following(): boolean {
    return this.#client !== undefined;
  }

  members(): readonly Member[] {
    return this.#table.members();
  }

  /** Milliseconds to a member, by the agent's coordinates. */
  rtt(name: string): number | undefined {
    return this.#rtts.get(name);
  }

  /** @returns what ends it */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Changes from now on, until the signal aborts. A reader that is 10,000 events late gets an error and reads `members()` anew. */
  async *events(signal: AbortSignal): AsyncIterable<MembershipEvent> {
    const queue = new EventQueue<MembershipEvent>(maxWaiting);
    const end = () => queue.end();
    this.#readers.add(queue);
    signal.addEventListener("abort", end, { once: true });
    if (signal.aborted || this.#closed) end();
    try {
      yield* queue;
    } finally {
      this.#readers.delete(queue);
      signal.removeEventListener("abort", end);
    }
  }

  /** What discovery shows now; those that are no members yet are joined. */
  setAddresses(addresses: readonly JoinAddress[]): void {
    this.#joiner.setAddresses(addresses);
  }

  /** Tells every member, this one included; at most 470 bytes with the name. @throws NetworkError `payload-too-large`, `serf-unavailable` */
  async userEvent(name: string, payload: Uint8Array, signal?: AbortSignal): Promise<void> {
    await this.#connected().userEvent(name, payload, signal);
  }

  /**
   * Asks every member, or those named, this one included. Yields answers as they come; ends after `timeout` (ms).
   * @throws NetworkError `payload-too-large` past 700 bytes with its name and theirs, `serf-unavailable`
   */
  async *query(
    name: string,
    payload: Uint8Array,
    options: { readonly timeout?: number; readonly nodes?: readonly string[]; readonly signal?: AbortSignal } = {},
  ): AsyncIterable<QueryAnswer> {
    const { timeout = 5_000 } = options;
    const records = await this.#connected().query(name, payload, { ...options, timeout });
    for await (const record of records) {
      if (record.kind === "response") yield { from: record.from, payload: record.payload };
    }
  }

  /** @returns what ends it */
  onUserEvent(name: string, handler: UserEventHandler): () => void {
    return this.#handlers.onUserEvent(name, handler);
  }

  /** One handler answers the queries of a name. @returns what ends it */
  onQuery(name: string, handler: QueryHandler): () => void {
    return this.#handlers.onQuery(name, handler);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#session?.abort();
    for (const reader of this.#readers) reader.end();
    await this.#running;
    this.#handlers.close();
  }

  #connected(): SerfRpcClient {
    if (!this.#client) throw noService("serf-unavailable", "the serf agent does not answer: it is not running");
    return this.#client;
  }

  /** Keeps a connection for events; after every loss members are listed anew. */
  async #follow(access: AgentAccess, signal: AbortSignal): Promise<void> {
    const backoff = new Backoff(100, 5_000);
    let first = true;
    while (!signal.aborted) {
      let client: SerfRpcClient | undefined;
      try {
        client = await connectTo(access, signal);
        const events = await client.stream(signal);
        if (first) await this.#joiner.rejoin(client, access, signal);
        await this.#sync(client, signal);
        first = false;
        this.#newAgent = false;
        this.#client = client;
        backoff.reset();
        this.#changed();
        await Promise.race([this.#read(client, events), this.#refresh(client, access, signal)]);
      } catch (error) {
        if (!signal.aborted) this.#options.log("debug", `serf: ${errorText(error)}`);
      } finally {
        if (this.#client === client) this.#client = undefined;
        client?.close();
      }
      await pause(backoff.next(), signal);
    }
  }

  async #read(client: SerfRpcClient, events: AsyncIterable<SerfEvent>): Promise<void> {
    for await (const event of events) {
      if (event.kind === "members") this.#publish(this.#table.apply(event.change, event.members));
      else if (event.kind === "user") this.#handlers.userEvent(event.name, event.payload);
      else if (event.kind === "query") this.#handlers.query(client, event);
    }
  }

  /** Looks at everything again from time to time: serf drops events for readers that are slow. */
  async #refresh(client: SerfRpcClient, access: AgentAccess, signal: AbortSignal): Promise<void> {
    const ended = new AbortController();
    void client.closed.then(() => ended.abort());
    const both = AbortSignal.any([signal, ended.signal]);
    const { interval = 15_000 } = this.#options;
    // A young cluster is looked at more often: coordinates come with the first probes.
    for (let wait = 1_000; !both.aborted; wait = Math.min(2 * wait, interval)) {
      await this.#measure(client, access.name, both);
      await pause(wait, both);
      if (!both.aborted) await this.#sync(client, both);
    }
  }

  async #measure(client: SerfRpcClient, self: string, signal: AbortSignal): Promise<void> {
    const own = await client.coordinate(self, signal);
    const others = this.members().filter(({ name, status }) => name !== self && status === "alive");
    const names = new Set(others.slice(0, maxCoordinates).map(({ name }) => name));
    for (const name of [...this.#rtts.keys()]) if (!names.has(name)) this.#rtts.delete(name);
    for (const name of names) {
      const other = own && (await client.coordinate(name, signal));
      const rtt = own && other && roundTrip(own, other);
      if (rtt !== undefined) this.#rtts.set(name, rtt);
    }
  }

  async #sync(client: SerfRpcClient, signal: AbortSignal): Promise<void> {
    const members = await client.members(signal);
    if (!signal.aborted) this.#publish(this.#table.sync(members, this.#newAgent, Date.now()));
  }

  #publish(events: readonly MembershipEvent[]): void {
    for (const event of events) {
      const { name, address, port } = event.member;
      this.#options.log("debug", `serf: member ${name} (${joinText({ host: address, port }, 0)}): ${event.kind}`);
      for (const reader of this.#readers) {
        if (!reader.push(event)) reader.end(new Error("this reader of membership events is too slow"));
      }
    }
    if (events.length > 0) this.#changed();
  }

  #changed(): void {
    for (const listener of this.#listeners) {
      try {
        listener();
      } catch (error) {
        this.#options.log("error", `a listener to the members failed: ${errorText(error)}`);
      }
    }
  }
}

const connectTo = ({ rpcPort, authKey }: AgentAccess, signal: AbortSignal): Promise<SerfRpcClient> =>
  SerfRpcClient.connect({ host: "127.0.0.1", port: rpcPort, authKey, signal });
