import * as z from "zod";
import { internal } from "../../errors.ts";
import { type Ip, ipFromBytes } from "../../net/ip.ts";

/** What serf's RPC says (protocol version 1), checked: the agent repeats what other hosts tell it. */

const bytes = z.instanceof(Uint8Array);
/** Older agents send bytes as text and text as bytes: both are read alike. */
const textOf = (most: number) =>
  z
    .union([bytes, z.string()])
    .transform((value) => (typeof value === "string" ? value : Buffer.from(value).toString("utf8")))
    .refine((text) => text.length <= most, { message: `longer than ${most} characters` });
const payload = z
  .union([bytes, z.null()])
  .optional()
  .transform((value): Buffer => Buffer.from(value ?? []));
const count = z.number().min(0);

export const headerSchema = z.object({ Seq: count, Error: textOf(65_536) });
export type Header = z.infer<typeof headerSchema>;

const address = bytes.transform((value, context): Ip => {
  if (value.length === 4) return ipFromBytes(value);
  if (value.length === 16) {
    // Go may write an IPv4 address as IPv4-mapped IPv6.
    const mapped = value.subarray(0, 10).every((byte) => byte === 0) && value[10] === 0xff && value[11] === 0xff;
    return ipFromBytes(mapped ? value.subarray(12) : value);
  }
  context.addIssue({ code: "custom", message: "not an address" });
  return z.NEVER;
});

export const memberStatuses = ["alive", "leaving", "left", "failed", "none"] as const;
export type MemberStatus = (typeof memberStatuses)[number];

/** A member as serf shows it. */
export interface Member {
  readonly name: string;
  readonly address: Ip;
  readonly port: number;
  readonly status: MemberStatus;
  readonly tags: Readonly<Record<string, string>>;
}

const tagsSchema = z
  .union([z.record(z.string().max(512), textOf(512)), z.null()])
  .optional()
  .transform((tags): Readonly<Record<string, string>> => tags ?? {});

export const memberSchema = z
  .object({
    Name: textOf(255).refine((name) => /^[\x21-\x7e]+$/.test(name), { message: "a name of other than plain letters" }),
    Addr: address,
    Port: z.int().min(0).max(65_535),
    Status: textOf(32),
    Tags: tagsSchema,
  })
  .transform(
    ({ Name, Addr, Port, Status, Tags }): Member => ({
      name: Name,
      address: Addr,
      port: Port,
      status: memberStatuses.find((known) => known === Status) ?? "none",
      tags: Tags,
    }),
  );

/** As many members are followed. */
export const maxMembers = 10_000;

/** Members that are not valid are left out: one odd host must not hide the others. */
const memberList = z
  .union([z.array(z.unknown()), z.null()])
  .transform((list): readonly Member[] =>
    (list ?? []).slice(0, maxMembers).flatMap((value) => memberSchema.safeParse(value).data ?? []),
  );

export const membersSchema = z.object({ Members: memberList }).transform(({ Members }) => Members);
export const joinSchema = z.object({ Num: count }).transform(({ Num }) => Num);
export const statsSchema = z.record(z.string(), z.record(z.string(), textOf(1_024)));
export type Stats = z.infer<typeof statsSchema>;

/** Vivaldi coordinates: everything in seconds, `error` without a unit. */
export interface Coordinate {
  readonly vec: readonly number[];
  readonly error: number;
  readonly adjustment: number;
  readonly height: number;
}

const finite = z.number();
export const coordinateSchema = z
  .object({
    Ok: z.boolean(),
    Coord: z.object({
      Vec: z.union([z.array(finite).max(64), z.null()]),
      Error: finite,
      Adjustment: finite,
      Height: finite,
    }),
  })
  .transform(({ Ok, Coord }): Coordinate | undefined =>
    Ok ? { vec: Coord.Vec ?? [], error: Coord.Error, adjustment: Coord.Adjustment, height: Coord.Height } : undefined,
  );

export const memberChanges = ["member-join", "member-leave", "member-failed", "member-update", "member-reap"] as const;
export type MemberChange = (typeof memberChanges)[number];

/** What the event stream says. */
export type SerfEvent =
  | { readonly kind: "members"; readonly change: MemberChange; readonly members: readonly Member[] }
  | { readonly kind: "user"; readonly name: string; readonly payload: Buffer }
  | { readonly kind: "query"; readonly id: number; readonly name: string; readonly payload: Buffer }
  /** Something that a later serf may send. */
  | { readonly kind: "other" };

const eventName = z.object({ Event: textOf(64) });
const userEventSchema = z.object({ Name: textOf(512), Payload: payload });
const queryEventSchema = z.object({ ID: count, Name: textOf(1_024), Payload: payload });
const memberEventSchema = z.object({ Members: memberList });

/** @throws NetworkError `serf-protocol` */
export const toEvent = (value: unknown): SerfEvent => {
  const { Event } = checked(eventName, value);
  if (Event === "user") {
    const { Name, Payload } = checked(userEventSchema, value);
    return { kind: "user", name: Name, payload: Payload };
  }
  if (Event === "query") {
    const { ID, Name, Payload } = checked(queryEventSchema, value);
    return { kind: "query", id: ID, name: Name, payload: Payload };
  }
  const change = memberChanges.find((known) => known === Event);
  return change ? { kind: "members", change, members: checked(memberEventSchema, value).Members } : { kind: "other" };
};

/** What comes of a query: who got it, what they answered, the end. */
export type QueryRecord =
  | { readonly kind: "ack"; readonly from: string }
  | { readonly kind: "response"; readonly from: string; readonly payload: Buffer }
  | { readonly kind: "done" }
  | { readonly kind: "other" };

const queryRecordSchema = z.object({ Type: textOf(32), From: textOf(255), Payload: payload });

/** @throws NetworkError `serf-protocol` */
export const toQueryRecord = (value: unknown): QueryRecord => {
  const { Type, From, Payload } = checked(queryRecordSchema, value);
  // When the time of a query is up, serf 0.9 may send empty answers of nobody before it says that it is done.
  if (From === "" && Type !== "done") return { kind: "other" };
  if (Type === "response") return { kind: "response", from: From, payload: Payload };
  if (Type === "ack") return { kind: "ack", from: From };
  return Type === "done" ? { kind: "done" } : { kind: "other" };
};

/** @throws NetworkError `serf-protocol` where the value is not of the schema's shape */
export const checked = <T>(schema: z.ZodType<T>, value: unknown): T => {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw internal("serf-protocol", `serf's answer is not as expected: ${issue?.path.join(".")}: ${issue?.message}`);
};
