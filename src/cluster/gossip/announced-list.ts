import { createHash } from "node:crypto";
import { encode } from "@msgpack/msgpack";
import { type Announcement, toRow } from "./announcement.ts";

/** The announcements of one node, with a digest that does not depend on their order: equal digests, equal lists. */
export class AnnouncedList {
  readonly #entries = new Map<string, { readonly announcement: Announcement; readonly sum: bigint }>();
  #digest = 0n;

  static of(announcements: Iterable<Announcement>): AnnouncedList {
    const list = new AnnouncedList();
    for (const announcement of announcements) list.put(announcement);
    return list;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** 16 hex digits. */
  get digest(): string {
    return this.#digest.toString(16).padStart(16, "0");
  }

  /** In order of their ids. */
  values(): readonly Announcement[] {
    return [...this.#entries.values()].map(({ announcement }) => announcement).sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  ids(): readonly string[] {
    return [...this.#entries.keys()];
  }

  has(id: string): boolean {
    return this.#entries.has(id);
  }

  /** @returns false where it was there already, the same */
  put(announcement: Announcement): boolean {
    const before = this.#entries.get(announcement.id);
    if (before?.announcement === announcement) return false;
    const sum = sumOf(announcement);
    if (before?.sum === sum) return false;
    this.#entries.set(announcement.id, { announcement, sum });
    this.#digest ^= sum ^ (before?.sum ?? 0n);
    return true;
  }

  remove(id: string): boolean {
    const before = this.#entries.get(id);
    this.#digest ^= before?.sum ?? 0n;
    return this.#entries.delete(id);
  }
}

const sumOf = (announcement: Announcement): bigint =>
  createHash("sha256")
    .update(encode(toRow(announcement)))
    .digest()
    .readBigUInt64BE(0);
