import { type Member, type MemberChange, type MemberStatus, maxMembers } from "./messages.ts";

/** A change of the membership, as the table tells it. */
export interface MembershipEvent {
  readonly kind: "join" | "leave" | "failed" | "update" | "reap";
  readonly member: Member;
}

const kindOf: Readonly<Record<MemberChange, MembershipEvent["kind"]>> = {
  "member-join": "join",
  "member-leave": "leave",
  "member-failed": "failed",
  "member-update": "update",
  "member-reap": "reap",
};
const statusOf: Readonly<Partial<Record<MemberChange, MemberStatus>>> = {
  "member-join": "alive",
  "member-leave": "left",
  "member-failed": "failed",
};
/** Serf remembers a failed member for a day (its `reconnect_timeout`); so does the table for what a dead agent knew. */
const remembered = 24 * 3_600_000;

/** The members as serf tells them: a full list now and then, events in between. Pure: it answers with what has changed. */
export class MemberTable {
  readonly #members = new Map<string, Member>();
  /** Members that only an earlier agent knew, and since when (ms). */
  readonly #orphans = new Map<string, number>();

  members(): readonly Member[] {
    return [...this.#members.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  get(name: string): Member | undefined {
    return this.#members.get(name);
  }

  /**
   * Takes the list of all members.
   * @param newAgent true for the first list of an agent that has just started: it does not know yet whom the one before it knew, and
   *   those count as failed
   */
  sync(list: readonly Member[], newAgent: boolean, now: number): readonly MembershipEvent[] {
    const there = new Set(list.map(({ name }) => name));
    const events: MembershipEvent[] = [];
    for (const member of this.members().filter(({ name }) => !there.has(name))) {
      const orphan = this.#orphans.get(member.name);
      if (orphan !== undefined && now - orphan < remembered) continue;
      if (newAgent && orphan === undefined && member.status === "alive") {
        this.#orphans.set(member.name, now);
        events.push(...this.#put({ ...member, status: "failed" }, "failed"));
      } else if (!newAgent || orphan !== undefined || member.status !== "failed") {
        events.push(...this.#remove(member));
      } else this.#orphans.set(member.name, now);
    }
    for (const member of list) {
      const known = this.#members.get(member.name);
      events.push(...this.#put(member, changeBetween(known, member)));
    }
    return events;
  }

  /** Takes an event of the stream. */
  apply(change: MemberChange, members: readonly Member[]): readonly MembershipEvent[] {
    return members.flatMap((told) => {
      if (change === "member-reap") return this.#remove(told);
      const known = this.#members.get(told.name);
      const member = { ...told, status: statusOf[change] ?? told.status };
      const kind = kindOf[change];
      // The list may have told it already.
      return this.#put(member, kind !== "update" && known && same(known, member) ? undefined : kind);
    });
  }

  #put(member: Member, kind: MembershipEvent["kind"] | undefined): readonly MembershipEvent[] {
    if (!this.#members.has(member.name) && this.#members.size >= maxMembers) return [];
    if (kind !== "failed") this.#orphans.delete(member.name);
    this.#members.set(member.name, member);
    return kind === undefined ? [] : [{ kind, member }];
  }

  #remove(member: Member): readonly MembershipEvent[] {
    this.#orphans.delete(member.name);
    return this.#members.delete(member.name) ? [{ kind: "reap", member }] : [];
  }
}

const same = (a: Member, b: Member): boolean =>
  a.status === b.status &&
  a.address === b.address &&
  a.port === b.port &&
  Object.keys(a.tags).length === Object.keys(b.tags).length &&
  Object.entries(a.tags).every(([name, value]) => b.tags[name] === value);

/** What has happened between two looks; undefined for nothing that is told. */
const changeBetween = (before: Member | undefined, now: Member): MembershipEvent["kind"] | undefined => {
  if (before && same(before, now)) return undefined;
  if (before && before.status === now.status) return "update";
  if (now.status === "alive") return "join";
  if (now.status === "left") return "leave";
  if (now.status === "failed") return "failed";
  return before ? "update" : "join";
};
