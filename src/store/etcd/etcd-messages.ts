import { z } from "zod";

/**
 * The messages of etcd's JSON gateway (etcd 3.4 and later, `/v3/...`) as far as they are used here: protocol buffers in JSON, so
 * 64-bit numbers are strings, bytes are base64, and what is zero or empty is left out.
 */

/** A revision, or a time in seconds. */
const int64 = z
  .union([z.string().regex(/^-?\d{1,19}$/), z.number()])
  .transform(Number)
  .pipe(z.number().int());
/** A number that is only compared and handed back. */
const opaque = z.union([z.string().regex(/^-?\d{1,20}$/), z.number().int().transform(String)]);
const bytes = z.string().transform((text) => Buffer.from(text, "base64"));
const nothing = Buffer.alloc(0);

const header = z.object({ revision: int64.default(0) });

export const keyValue = z.object({ key: bytes, value: bytes.default(nothing), mod_revision: int64.default(0) });

export type KeyValue = z.output<typeof keyValue>;

export const rangeResponse = z.object({
  header,
  kvs: z.array(keyValue).default([]),
  more: z.boolean().default(false),
});

export const txnResponse = z.object({
  header,
  succeeded: z.boolean().default(false),
  responses: z
    .array(z.object({ response_range: z.object({ kvs: z.array(keyValue).default([]) }).optional() }))
    .default([]),
});

const watchResponse = z.object({
  header,
  created: z.boolean().default(false),
  canceled: z.boolean().default(false),
  cancel_reason: z.string().default(""),
  compact_revision: int64.default(0),
  /** More of the same revisions follows in the next one. */
  fragment: z.boolean().default(false),
  events: z.array(z.object({ type: z.enum(["PUT", "DELETE"]).default("PUT"), kv: keyValue })).default([]),
});

export type WatchResponse = z.output<typeof watchResponse>;

/** One line of a stream. */
export const watchLine = z.object({
  result: watchResponse.optional(),
  error: z.object({ message: z.string().default("") }).optional(),
});

export const leaseGrantResponse = z.object({ ID: opaque, TTL: int64 });

/** Keepalive is a stream of which we take the first line. TTL 0: there is no such lease. */
export const keepAliveLine = z.object({
  result: z.object({ TTL: int64.default(0) }).optional(),
  error: z.object({ message: z.string().default("") }).optional(),
});

export const authenticateResponse = z.object({ token: z.string().min(1).max(4096) });

export const anyResponse = z.object({});

/** What the gateway says instead of an answer; `code` is gRPC's. */
export const refusal = z.object({ code: z.number().int(), message: z.string() });

/** As a request carries bytes. */
export const base64 = (text: string | Buffer): string => Buffer.from(text).toString("base64");
