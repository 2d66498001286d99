import type { GossipBus } from "../../src/cluster/gossip/endpoint-gossip.ts";
import type { ClusterNode } from "../../src/cluster/merge-nodes.ts";
import type { QueryHandler, UserEventHandler } from "../../src/cluster/serf/handlers.ts";
import type { QueryAnswer } from "../../src/cluster/serf/membership.ts";
import { parseIp } from "../../src/net/ip.ts";
import { VirtualClock } from "../../src/store/memory/virtual-clock.ts";

interface Node {
  readonly events: Map<string, Set<UserEventHandler>>;
  readonly queries: Map<string, QueryHandler>;
  readonly listeners: Set<() => void>;
  up: boolean;
}

/** A gossip that loses, doubles and reorders what it carries, and can be parted. Its time is virtual. */
export class FakeGossip {
  readonly clock = new VirtualClock();
  readonly random: () => number;
  /** Part of all messages that get lost, and of all events that come twice. */
  loss = 0;
  doubled = 0;
  /** Most milliseconds that a message takes. */
  delay = 10;
  /** Nodes with different sides do not hear each other. */
  side: (node: string) => number = () => 0;
  /** Queries that were asked. */
  asked = 0;
  readonly #nodes = new Map<string, Node>();

  /** @param seed of the accidents */
  constructor(seed = 1) {
    let state = seed >>> 0;
    // Mulberry32.
    this.random = () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  bus(self: string): GossipBus {
    const node = this.#node(self);
    return {
      nodes: () => [...this.#nodes.keys()].map((id) => this.#shown(id, self)),
      onChange: (listener) => {
        node.listeners.add(listener);
        return () => node.listeners.delete(listener);
      },
      userEvent: async (name, payload) => this.send(self, name, payload),
      query: (name, payload, { timeout = 5_000, nodes = [] }) => this.#query(self, name, payload, timeout, nodes),
      onUserEvent: (name, handler) => {
        const handlers = node.events.get(name) ?? new Set();
        node.events.set(name, handlers.add(handler));
        return () => handlers.delete(handler);
      },
      onQuery: (name, handler) => {
        node.queries.set(name, handler);
        return () => node.queries.delete(name);
      },
    };
  }

  /** An event from a node, whatever it says of itself. */
  send(from: string, name: string, payload: Uint8Array): void {
    for (const [id, node] of this.#nodes) {
      const copies = this.random() < this.doubled ? 2 : 1;
      for (let copy = 0; copy < copies; copy++) {
        this.#carry(from, id, () => {
          for (const handler of node.events.get(name) ?? []) void handler(Buffer.from(payload));
        });
      }
    }
  }

  up(id: string, up: boolean): void {
    this.#node(id).up = up;
    this.changed();
  }

  remove(id: string): void {
    this.#nodes.delete(id);
    this.changed();
  }

  changed(): void {
    for (const { listeners } of this.#nodes.values()) for (const listener of listeners) listener();
  }

  /** Lets virtual time pass until the condition holds. @returns false where it does not within that many milliseconds */
  async until(condition: () => boolean | Promise<boolean>, most = 300_000): Promise<boolean> {
    for (let passed = 0; passed <= most; passed += 100) {
      if (await condition()) return true;
      await this.pass(100);
    }
    return false;
  }

  async pass(milliseconds: number): Promise<void> {
    for (let passed = 0; passed < milliseconds; passed += 100) {
      this.clock.advance(Math.min(100, milliseconds - passed));
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  #node(id: string): Node {
    let node = this.#nodes.get(id);
    if (!node) {
      node = { events: new Map(), queries: new Map(), listeners: new Set(), up: true };
      this.#nodes.set(id, node);
      this.changed();
    }
    return node;
  }

  #hears(from: string, to: string): boolean {
    const [a, b] = [this.#nodes.get(from), this.#nodes.get(to)];
    return a?.up === true && b?.up === true && this.side(from) === this.side(to);
  }

  #shown(id: string, by: string): ClusterNode {
    const alive = this.#hears(id, by);
    return {
      id,
      name: `host-${id}`,
      address: parseIp(`172.17.0.${Number.parseInt(id.slice(-2), 16)}`),
      version: "1",
      state: alive ? "alive" : "gone",
      self: id === by,
      serf: { name: `serf-${id}`, status: alive ? "alive" : "failed" },
    };
  }

  #carry(from: string, to: string, arrive: () => void): void {
    if (from !== to && this.random() < this.loss) return;
    this.clock.after(this.random() * this.delay, () => {
      if (this.#hears(from, to)) arrive();
    });
  }

  async *#query(
    from: string,
    name: string,
    payload: Uint8Array,
    timeout: number,
    to: readonly string[],
  ): AsyncIterable<QueryAnswer> {
    this.asked++;
    const answers: QueryAnswer[] = [];
    const end = Promise.withResolvers<void>();
    for (const [id, node] of this.#nodes) {
      if (!to.includes(`serf-${id}`)) continue;
      this.#carry(from, id, () => {
        void node.queries
          .get(name)?.(Buffer.from(payload), AbortSignal.abort())
          .then((answer) => {
            if (!answer) return;
            this.#carry(id, from, () => {
              answers.push({ from: `serf-${id}`, payload: Buffer.from(answer) });
              end.resolve();
            });
          });
      });
    }
    const cancel = this.clock.after(timeout, end.resolve);
    await end.promise;
    cancel();
    yield* answers;
  }
}
