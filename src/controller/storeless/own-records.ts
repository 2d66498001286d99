import type { Announcement } from "../../cluster/gossip/announcement.ts";
import type { Json } from "../../store/store.ts";
import { type EndpointRecord, endpointRecord, type NetworkRecord, networkRecord } from "../records.ts";
import { announcementOf } from "./resolve.ts";

interface Own {
  readonly record: EndpointRecord;
  readonly announcement: Announcement;
}

/** The global scope's entries that this node keeps itself, read once: those that are no records are nobody's to tell. */
export class OwnRecords {
  readonly #prefix: string;
  readonly #values = new Map<string, Json>();
  readonly #endpoints = new Map<string, Own>();
  readonly #networks = new Map<string, NetworkRecord>();

  /** @param prefix of the scope: `global/` */
  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  set(key: string, value: Json): void {
    this.delete(key);
    this.#values.set(key, value);
    if (key.startsWith(`${this.#prefix}endpoints/`)) {
      const record = endpointRecord.safeParse(value).data;
      if (record) this.#endpoints.set(key, { record, announcement: announcementOf(record) });
    } else if (key.startsWith(`${this.#prefix}networks/`)) {
      const record = networkRecord.safeParse(value).data;
      if (record) this.#networks.set(key, record);
    }
  }

  delete(key: string): void {
    this.#values.delete(key);
    this.#endpoints.delete(key);
    this.#networks.delete(key);
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  entries(): readonly { readonly key: string; readonly value: Json }[] {
    return [...this.#values].map(([key, value]) => ({ key, value }));
  }

  endpoint(key: string): EndpointRecord | undefined {
    return this.#endpoints.get(key)?.record;
  }

  get size(): number {
    return this.#endpoints.size;
  }

  endpoints(): readonly EndpointRecord[] {
    return [...this.#endpoints.values()].map(({ record }) => record);
  }

  /** What others are told; the same objects while nothing changes. */
  announcements(): readonly Announcement[] {
    return [...this.#endpoints.values()].map(({ announcement }) => announcement);
  }

  networks(): readonly NetworkRecord[] {
    return [...this.#networks.values()];
  }
}
