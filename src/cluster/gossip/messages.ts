import { decode, encode } from "@msgpack/msgpack";
import * as z from "zod";
import { type Announcement, announcementRow, toRow } from "./announcement.ts";

/** Messages of the announcements. Whoever is in the gossip can send any: each is validated as a whole or counts as lost. */

/** Name of the user event and of the query. */
export const messageName = "dnet-endpoints";
/** Bytes of an event (serf's 470 include the name) and of an answer. */
export const maxEventBytes = 470 - Buffer.byteLength(messageName);
export const maxAnswerBytes = 800;
/** Bytes of one announcement: with the head of an answer it must fit one. */
export const maxAnnouncementBytes = 700;
/** Endpoints of one node. */
export const maxAnnouncements = 4096;

const wireVersion = 1;
const count = z.int().min(0).max(Number.MAX_SAFE_INTEGER);
/** The sum of a node's announcements: see `digest.ts`. */
const digest = z
  .instanceof(Uint8Array)
  .refine((value) => value.length === 8)
  .transform((value) => Buffer.from(value).toString("hex"));
const head = { epoch: count, sequence: count };
const nodeId = z
  .instanceof(Uint8Array)
  .refine((value) => value.length === 4)
  .transform((value) => Buffer.from(value).toString("hex"));
const endpointId = z
  .instanceof(Uint8Array)
  .refine((value) => value.length === 32)
  .transform((value) => Buffer.from(value).toString("hex"));

/** How far a node is: its list of announcements, at one moment. */
export interface Mark {
  /** Time at which its daemon started (ms). */
  readonly epoch: number;
  /** Changes since then. */
  readonly sequence: number;
  /** 16 hex digits: of the list as it is after that many changes. */
  readonly digest: string;
}

/** One change of a node's list; without one a sign of life, from which others see whether they missed something. */
export interface AnnouncementEvent extends Mark {
  readonly node: string;
  readonly change?: { readonly put: Announcement } | { readonly remove: string };
}

const eventRow = z
  .tuple([
    z.literal(wireVersion),
    nodeId,
    head.epoch,
    head.sequence,
    digest,
    z.union([z.null(), z.tuple([z.literal(0), announcementRow]), z.tuple([z.literal(1), endpointId])]),
  ])
  .transform(([, node, epoch, sequence, sum, change]): AnnouncementEvent => {
    const event = { node, epoch, sequence, digest: sum };
    if (change === null) return event;
    return { ...event, change: change[0] === 0 ? { put: change[1] } : { remove: change[1] } };
  });

/** One page of a node's list. */
export interface AnnouncementPage extends Mark {
  readonly pages: number;
  readonly announcements: readonly Announcement[];
}

const pageRow = z
  .tuple([z.literal(wireVersion), head.epoch, head.sequence, digest, count, z.array(announcementRow).max(64)])
  .transform(
    ([, epoch, sequence, sum, pages, announcements]): AnnouncementPage => ({
      epoch,
      sequence,
      digest: sum,
      pages,
      announcements,
    }),
  );

const questionRow = z.tuple([z.literal(wireVersion), count]).transform(([, page]) => page);

/** A head that promises more than follows must not make room for it. */
const bounds = { maxArrayLength: 64, maxMapLength: 0, maxStrLength: 512, maxBinLength: 64, maxExtLength: 0 } as const;

/** Undefined where the bytes are no such message. */
const reader =
  <T>(schema: z.ZodType<T>) =>
  (payload: Uint8Array): T | undefined => {
    try {
      return schema.parse(decode(payload, bounds));
    } catch {
      return undefined;
    }
  };

export const readEvent = reader(eventRow);
export const readPage = reader(pageRow);
/** @returns the number of the page that is asked for, from 0 */
export const readQuestion = reader(questionRow);

export const writeEvent = ({ node, epoch, sequence, digest, change }: AnnouncementEvent): Uint8Array =>
  encode([
    wireVersion,
    Buffer.from(node, "hex"),
    epoch,
    sequence,
    Buffer.from(digest, "hex"),
    change === undefined ? null : "put" in change ? [0, toRow(change.put)] : [1, Buffer.from(change.remove, "hex")],
  ]);

export const writePage = ({ epoch, sequence, digest, pages, announcements }: AnnouncementPage): Uint8Array =>
  encode([wireVersion, epoch, sequence, Buffer.from(digest, "hex"), pages, announcements.map(toRow)]);

export const writeQuestion = (page: number): Uint8Array => encode([wireVersion, page]);

export const sizeOf = (announcement: Announcement): number => encode(toRow(announcement)).length;
