import { duplicates } from "./duplicates.ts";
import { type Event, type EventOf, settledAt } from "./history.ts";

/** Finds what no correct cluster can have done. Pure: a history in, sentences out; none says that it may have been correct. */
export const checkHistory = (history: readonly Event[]): readonly string[] => {
  const index = new HistoryIndex(history);
  return [
    ...history.flatMap(duplicatesInRead),
    ...names(index),
    ...attachedTwice(index),
    ...history.flatMap((event) => {
      if (event.kind === "read-networks")
        return objectsIn(index.networks, event, new Set(event.networks.map(({ id }) => id)));
      if (event.kind === "read-services") return [...servicesIn(index, event), ...attachmentsIn(index, event)];
      if (event.kind === "read-sandboxes") {
        return objectsIn(index.sandboxes, event, new Set(event.sandboxes), ({ node }) => node === event.node);
      }
      return [];
    }),
  ];
};

/** An object's life as far as clients know it. */
interface Life {
  readonly what: string;
  readonly name: string;
  readonly node: string;
  readonly created: Event;
  /** Everything that may have ended it. */
  readonly ends: Event[];
}

type Attach = EventOf<"attach">;

class HistoryIndex {
  readonly networks = new Map<string, Life>();
  readonly endpoints = new Map<string, Life>();
  readonly sandboxes = new Map<string, Life>();
  /** Attachments and detachments that happened or may have, by endpoint. */
  readonly attaches: Map<string, Attach[]>;
  readonly detaches: Map<string, EventOf<"detach">[]>;
  readonly publishes: readonly EventOf<"publish">[];
  readonly networkCreates: readonly EventOf<"create-network">[];

  constructor(history: readonly Event[]) {
    const effective = history.filter(({ outcome }) => outcome !== "refused");
    const of = <K extends Event["kind"]>(kind: K) =>
      effective.filter((event): event is EventOf<K> => event.kind === kind);
    this.attaches = grouped(of("attach"), ({ endpoint }) => endpoint);
    this.detaches = grouped(of("detach"), ({ endpoint }) => endpoint);
    this.publishes = of("publish");
    this.networkCreates = of("create-network");
    const removals = [...of("remove-network"), ...of("unpublish"), ...of("remove-sandbox")];
    const ends = grouped<Event>(removals, (event) => ("id" in event && event.id) || "");
    // Removing a sandbox removes what is attached to it.
    for (const [endpoint, attaches] of this.attaches) {
      const more = attaches.flatMap((attach) =>
        of("remove-sandbox").filter(
          ({ id, ...removal }) => id === attach.sandbox && attach.begin < settledAt({ ...removal, id }),
        ),
      );
      ends.set(endpoint, [...(ends.get(endpoint) ?? []), ...more]);
    }
    const life = (map: Map<string, Life>, what: string, id: string | undefined, name: string, created: Event) => {
      if (id === undefined || created.outcome !== "ok") return;
      map.set(id, {
        what: `${what} ${name} (${id.slice(0, 12)})`,
        name,
        node: created.node,
        created,
        ends: ends.get(id) ?? [],
      });
    };
    for (const event of this.networkCreates) life(this.networks, "network", event.id, event.name, event);
    for (const event of this.publishes)
      life(this.endpoints, "endpoint", event.id, `${event.network}/${event.name}`, event);
    for (const event of of("create-sandbox")) life(this.sandboxes, "sandbox", event.id, event.container, event);
  }
}

const grouped = <T>(events: readonly T[], key: (event: T) => string): Map<string, T[]> => Map.groupBy(events, key);

const at = ({ node, begin, end }: Event): string => `on ${node} at ${begin.toFixed(0)}-${end.toFixed(0)} ms`;

const duplicatesInRead = (event: Event): readonly string[] => {
  if (event.kind !== "read-networks" && event.kind !== "read-services") return [];
  const found = event.kind === "read-networks" ? duplicates(event.networks, []) : duplicates([], event.services);
  return found.map((text) => `${text} (${event.kind} ${at(event)})`);
};

/** Two lives under one name: one of them must have been able to end before the other began. */
const names = ({ networks, endpoints }: HistoryIndex): readonly string[] =>
  [networks, endpoints].flatMap((lives) =>
    [...grouped([...lives.values()], ({ name }) => name).values()].flatMap((same) =>
      pairs(same).flatMap(([one, other]) =>
        endsBefore(one, other) || endsBefore(other, one)
          ? []
          : [`name twice: ${one.what} created ${at(one.created)} and ${other.what} created ${at(other.created)}`],
      ),
    ),
  );

const endsBefore = (one: Life, other: Life): boolean =>
  one.created.begin < other.created.end && one.ends.some(({ begin }) => begin < other.created.end);

/** Acknowledged twice: there must have been time for a detachment between. */
const attachedTwice = ({ attaches, detaches }: HistoryIndex): readonly string[] =>
  [...attaches].flatMap(([endpoint, all]) => {
    const done = all.filter(({ outcome }) => outcome === "ok");
    const undone = detaches.get(endpoint) ?? [];
    const mayFollow = (first: Attach, second: Attach) =>
      undone.some(
        (detach) => detach.sandbox === first.sandbox && settledAt(detach) > first.begin && detach.begin < second.end,
      );
    const clashes = pairs(done).flatMap(([one, other]) =>
      mayFollow(one, other) || mayFollow(other, one)
        ? []
        : [`attached twice: endpoint ${endpoint.slice(0, 12)} ${at(one)} and ${at(other)}`],
    );
    return done.length > undone.length + 1 && clashes.length === 0
      ? [`attached ${done.length} times and detached at most ${undone.length}: endpoint ${endpoint.slice(0, 12)}`]
      : clashes;
  });

const pairs = <T>(all: readonly T[]): readonly (readonly [T, T])[] =>
  all.flatMap((one, n) => all.slice(n + 1).map((other) => [one, other] as const));

/** What was acknowledged before the read began is seen, unless something that began before the read's end undid it. */
const objectsIn = (
  lives: ReadonlyMap<string, Life>,
  read: Event,
  seen: ReadonlySet<string>,
  expected: (life: Life) => boolean = () => true,
): readonly string[] =>
  [...lives].flatMap(([id, life]) => {
    if (seen.has(id)) {
      const gone = life.ends.find(
        (end) => end.outcome === "ok" && end.kind !== "remove-sandbox" && end.end < read.begin,
      );
      const own = life.ends.find(
        (end) => end.kind === "remove-sandbox" && end.id === id && end.outcome === "ok" && end.end < read.begin,
      );
      const removal = gone ?? own;
      return removal ? [`removed and there again: ${life.what}, removed ${at(removal)}, seen ${at(read)}`] : [];
    }
    if (!expected(life) || life.created.end >= read.begin || life.ends.some(({ begin }) => begin < read.end)) return [];
    return [`lost: ${life.what}, created ${at(life.created)}, not seen ${at(read)}`];
  });

const servicesIn = (index: HistoryIndex, read: EventOf<"read-services">): readonly string[] => {
  const { endpoints, publishes, networks, networkCreates } = index;
  const ours = new Set([...networks.keys(), ...networkCreates.map(({ id }) => id)]);
  const phantoms = read.services.filter(
    ({ id, network, name }) =>
      ours.has(network) &&
      !endpoints.has(id) &&
      !publishes.some(
        (event) =>
          event.outcome === "unknown" && event.network === network && event.name === name && event.begin < read.end,
      ) &&
      // Acknowledged later: the client has not heard of it when the read sees it.
      !publishes.some((event) => event.id === id && event.begin < read.end),
  );
  return [
    ...objectsIn(endpoints, read, new Set(read.services.map(({ id }) => id))),
    ...phantoms.map(({ id, name }) => `nobody published ${name} (${id.slice(0, 12)}), seen ${at(read)}`),
  ];
};

/** The same for attachments, which the sandbox's node shows. */
const attachmentsIn = (
  { attaches, detaches, endpoints, sandboxes }: HistoryIndex,
  read: EventOf<"read-services">,
): readonly string[] =>
  read.services.flatMap(({ id, sandbox }) => {
    const life = endpoints.get(id);
    if (!life) return [];
    const problems: string[] = [];
    const done = attaches.get(id) ?? [];
    const undone = detaches.get(id) ?? [];
    for (const attach of done) {
      if (
        attach.outcome !== "ok" ||
        attach.node !== read.node ||
        attach.end >= read.begin ||
        sandbox === attach.sandbox
      )
        continue;
      const detached = undone.some(
        (one) => one.sandbox === attach.sandbox && one.begin < read.end && settledAt(one) > attach.begin,
      );
      if (detached || life.ends.some(({ begin }) => begin < read.end)) continue;
      problems.push(`attachment lost: ${life.what}, attached ${at(attach)}, seen without ${at(read)}`);
    }
    if (sandbox === undefined) return problems;
    const detach = undone.find((one) => one.outcome === "ok" && one.sandbox === sandbox && one.end < read.begin);
    const again = done.some((one) => one.sandbox === sandbox && settledAt(one) > (detach?.begin ?? 0));
    if (detach && !again)
      problems.push(`detached and attached again: ${life.what}, detached ${at(detach)}, seen ${at(read)}`);
    const removal = sandboxes.get(sandbox)?.ends.find(({ outcome, end }) => outcome === "ok" && end < read.begin);
    if (removal)
      problems.push(
        `attached to nothing: ${life.what} in sandbox ${sandbox.slice(0, 12)}, removed ${at(removal)}, seen ${at(read)}`,
      );
    return problems;
  });
