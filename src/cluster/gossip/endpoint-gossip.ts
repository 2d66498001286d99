import { errorText } from "../../errors.ts";
import type { Ip } from "../../net/ip.ts";
import { type Clock, systemClock } from "../../store/lease-book.ts";
import type { Log } from "../log.ts";
import type { ClusterNode } from "../merge-nodes.ts";
import type { QueryHandler, UserEventHandler } from "../serf/handlers.ts";
import type { QueryAnswer } from "../serf/membership.ts";
import { AnnouncedList } from "./announced-list.ts";
import type { Announcement } from "./announcement.ts";
import { fetchList } from "./fetch-list.ts";
import {
  type AnnouncementEvent,
  type Mark,
  maxAnnouncements,
  maxEventBytes,
  messageName,
  readEvent,
  readQuestion,
  writeEvent,
  writePage,
} from "./messages.ts";
import { pagesOf } from "./pages.ts";
import { Pulls } from "./pulls.ts";

/** What the announcements travel by; `Cluster` is one. */
export interface GossipBus {
  nodes(): readonly ClusterNode[];
  onChange(listener: () => void): () => void;
  userEvent(name: string, payload: Uint8Array, signal?: AbortSignal): Promise<void>;
  query(
    name: string,
    payload: Uint8Array,
    options: { readonly timeout?: number; readonly nodes?: readonly string[]; readonly signal?: AbortSignal },
  ): AsyncIterable<QueryAnswer>;
  onUserEvent(name: string, handler: UserEventHandler): () => void;
  onQuery(name: string, handler: QueryHandler): () => void;
}

/** What one node has announced. */
export interface Announced {
  readonly node: string;
  /** Where it takes encapsulated packets. */
  readonly vtep?: Ip;
  readonly announcements: readonly Announcement[];
}

export interface EndpointGossipOptions {
  readonly bus: GossipBus;
  /** This node: eight hex digits. */
  readonly self: string;
  /** What this node has when it starts. */
  readonly own: readonly Announcement[];
  /** What others had when an earlier run ended: counts until they are heard, or for ten minutes. */
  readonly remembered?: readonly Announced[];
  /** Called when what others announce has changed. */
  readonly onChange: () => void;
  readonly log: Log;
  readonly clock?: Clock;
  readonly random?: () => number;
  readonly now?: () => number;
}

interface Known {
  mark: Omit<Mark, "digest">;
  list: AnnouncedList;
  vtep: Ip | undefined;
}

/** Milliseconds between two signs of life of a node at rest (three quarters to five quarters of it), and after a change. */
const restInterval = 30_000;
const soon = 1_500;
/** Milliseconds that those who all missed the same event spread their questions over. */
const spread = 500;
/** Milliseconds for which a node that the membership does not show is believed after a start. */
const remembering = 600_000;
/** Events that may wait to be sent; past it, others learn from the next sign of life. */
const maxSending = 256;
const sendDeadline = 5_000;
/** Announcements of all other nodes together. */
const maxKnown = 65_536;

/**
 * Tells the other nodes of this node's endpoints and learns theirs, by the gossip alone. Changes travel as user events, which may be
 * lost, doubled or forged: serf does not say who sent one. So each carries the digest of the whole list, and whoever finds that his
 * copy differs asks the node itself, page by page; an answer comes from who serf says. A node that fails is believed on: its sandboxes
 * may be well. It is forgotten when serf forgets it.
 */
export class EndpointGossip {
  readonly #options: EndpointGossipOptions;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #own: AnnouncedList;
  readonly #epoch: number;
  #sequence = 0;
  readonly #known = new Map<string, Known>();
  #members: ReadonlyMap<string, ClusterNode> = new Map();
  readonly #pulls: Pulls;
  readonly #ends: (() => void)[];
  #pages: readonly (readonly Announcement[])[] | undefined;
  #cancelSign: () => void = () => undefined;
  #sending: Promise<void> = Promise.resolve();
  #waiting = 0;
  #believes = true;
  #closed = false;

  constructor(options: EndpointGossipOptions) {
    const { bus, clock = systemClock, random = Math.random, remembered = [] } = options;
    this.#options = options;
    this.#clock = clock;
    this.#random = random;
    this.#own = AnnouncedList.of(options.own);
    this.#epoch = (options.now ?? Date.now)();
    for (const { node, vtep, announcements } of remembered) {
      this.#known.set(node, { mark: { epoch: 0, sequence: 0 }, list: AnnouncedList.of(announcements), vtep });
    }
    this.#pulls = new Pulls({ pull: (node, signal) => this.#pull(node, signal), clock, random, log: options.log });
    this.#ends = [
      bus.onUserEvent(messageName, (payload) => this.#hear(payload)),
      bus.onQuery(messageName, async (payload) => this.#answer(payload)),
      bus.onChange(() => this.#look()),
      clock.after(remembering, () => {
        this.#believes = false;
        this.#look();
      }),
    ];
    this.#look();
    this.#signLater(soon);
  }

  /** What the other nodes have, as far as it is known here. */
  others(): readonly Announced[] {
    return [...this.#known].map(([node, { vtep, list }]) => ({
      node,
      ...(vtep !== undefined && { vtep }),
      announcements: list.values(),
    }));
  }

  /** Whether a node is there to be asked. */
  isAlive(node: string): boolean {
    return this.#members.get(node)?.state === "alive";
  }

  nameOf(node: string): string {
    return this.#members.get(node)?.name ?? node;
  }

  /** Drops an endpoint of a node that is not there; it is back when the node is. */
  forget(node: string, id: string): void {
    if (this.#known.get(node)?.list.remove(id)) this.#options.onChange();
  }

  /** What this node has now: what differs from before is told. */
  update(own: readonly Announcement[]): void {
    const ids = new Set(own.map(({ id }) => id));
    for (const id of this.#own.ids()) {
      if (!ids.has(id) && this.#own.remove(id)) this.#tell({ remove: id });
    }
    for (const put of own) if (this.#own.put(put)) this.#tell({ put });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelSign();
    for (const end of this.#ends) end();
    this.#pulls.close();
    await this.#sending;
  }

  get #mark(): Mark {
    return { epoch: this.#epoch, sequence: this.#sequence, digest: this.#own.digest };
  }

  #tell(change: AnnouncementEvent["change"]): void {
    this.#sequence++;
    this.#pages = undefined;
    this.#send(change);
    this.#signLater(soon);
  }

  /** A sign of life at a time of one's own: nodes that started together must not speak together. */
  #signLater(interval: number): void {
    this.#cancelSign();
    if (this.#closed) return;
    this.#cancelSign = this.#clock.after(interval * (0.75 + this.#random() / 2), () => {
      this.#send(undefined);
      this.#signLater(restInterval);
    });
  }

  #send(change: AnnouncementEvent["change"]): void {
    const { bus, self, log } = this.#options;
    if (this.#waiting >= maxSending) return;
    const whole = writeEvent({ node: self, ...this.#mark, ...(change && { change }) });
    const bytes = whole.length <= maxEventBytes ? whole : writeEvent({ node: self, ...this.#mark });
    this.#waiting++;
    this.#sending = this.#sending
      .then(() => bus.userEvent(messageName, bytes, AbortSignal.timeout(sendDeadline)))
      .catch((error: unknown) => {
        log("debug", `announcements: ${errorText(error)}`);
        if (change) this.#signLater(soon);
      })
      .finally(() => {
        this.#waiting--;
      });
  }

  #hear(payload: Uint8Array): void {
    const event = readEvent(payload);
    if (!event) this.#options.log("debug", "announcements: an event that is none is ignored");
    if (!event || this.#closed || event.node === this.#options.self || !this.#members.has(event.node)) return;
    this.#pulls.note(event);
    if (this.#take(event)) this.#options.onChange();
  }

  /** @returns true where something changed */
  #take(event: AnnouncementEvent): boolean {
    const { node, change } = event;
    const known = this.#known.get(node);
    if (!known) return this.#ask(node, 0);
    const { mark, list } = known;
    const ahead = event.epoch === mark.epoch ? event.sequence - mark.sequence : Number.NaN;
    // Of an earlier moment: the event is late, or doubled. A sign of life that is behind is a node that says otherwise.
    if (change && ahead < 0) return false;
    if (ahead === 0) return event.digest === list.digest ? false : this.#ask(node, spread);
    if (!change || ahead !== 1) return this.#ask(node, spread);
    if ("put" in change && list.size >= maxAnnouncements && !list.has(change.put.id)) return this.#ask(node, spread);
    const changed = "put" in change ? list.put(change.put) : list.remove(change.remove);
    known.mark = { epoch: event.epoch, sequence: event.sequence };
    if (event.digest !== list.digest) this.#ask(node, spread);
    return changed;
  }

  #ask(node: string, within: number): false {
    if (this.isAlive(node)) this.#pulls.want(node, this.#random() * within);
    return false;
  }

  #answer(payload: Uint8Array): Uint8Array | undefined {
    const page = readQuestion(payload);
    if (page === undefined) return undefined;
    this.#pages ??= pagesOf(this.#own.values());
    return writePage({ ...this.#mark, pages: this.#pages.length, announcements: this.#pages[page] ?? [] });
  }

  /** Nodes came, went or moved. */
  #look(): void {
    if (this.#closed) return;
    const { bus, self, log, onChange } = this.#options;
    const before = this.#members;
    this.#members = new Map(bus.nodes().map((node) => [node.id, node]));
    let changed = false;
    for (const [id, node] of this.#members) {
      if (id === self) continue;
      const known = this.#known.get(id);
      const vtep = vtepOf(node);
      if (known && known.vtep !== vtep) {
        known.vtep = vtep;
        changed = true;
      }
      const asked = before.get(id);
      const back = asked?.state !== "alive" || asked.serf === undefined;
      if (node.state === "alive" && node.serf && back) this.#ask(id, spread);
      if (asked?.state === "alive" && node.state !== "alive" && known) {
        log(
          "warning",
          `node ${node.name} is ${node.state}: its ${known.list.size} services are kept, their sandboxes may be well`,
        );
      }
    }
    for (const node of this.#known.keys()) {
      if (this.#members.has(node) || (this.#believes && !before.has(node))) continue;
      log("info", `node ${before.get(node)?.name ?? node} is forgotten, and its services with it`);
      this.#known.delete(node);
      changed = true;
    }
    if (changed) onChange();
  }

  /** Replaces what is known of a node by what it says itself. */
  async #pull(node: string, signal: AbortSignal): Promise<void> {
    const { bus, log, onChange } = this.#options;
    const member = this.#members.get(node);
    if (!member?.serf || member.state !== "alive") return;
    const { mark, list } = await fetchList(bus, member.serf.name, signal);
    signal.throwIfAborted();
    const others = [...this.#known].reduce((sum, [id, known]) => sum + (id === node ? 0 : known.list.size), 0);
    if (others + list.size > maxKnown) throw new Error(`more than ${maxKnown} services on other nodes`);
    const before = this.#known.get(node)?.list.digest;
    this.#known.set(node, { mark, list, vtep: vtepOf(member) });
    log("debug", `announcements: node ${member.name} has ${list.size} services`);
    let changed = before !== list.digest;
    for (const event of this.#pulls.noted(node)) changed = this.#take(event) || changed;
    if (changed) onChange();
  }
}

/** The membership says where a node's tunnels end, not its announcements. */
const vtepOf = ({ vtep, address }: ClusterNode): Ip => vtep ?? address;
