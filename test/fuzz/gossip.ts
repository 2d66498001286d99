import { encode } from "@msgpack/msgpack";
import fc from "fast-check";
import { readEvent, readPage, readQuestion, writeEvent, writeQuestion } from "../../src/cluster/gossip/messages.ts";
import { FrameReader } from "../../src/cluster/serf/frames.ts";
import {
  checked,
  coordinateSchema,
  headerSchema,
  joinSchema,
  membersSchema,
  statsSchema,
  toEvent,
  toQueryRecord,
} from "../../src/cluster/serf/messages.ts";
import { fuzzTarget, nearly, nearlyJson } from "./target.ts";

const member = {
  Name: "h1",
  Addr: Buffer.from([10, 0, 0, 1]),
  Port: 7946,
  Tags: { id: "0000000a" },
  Status: "alive",
};
const answers: readonly unknown[] = [
  { Seq: 1, Error: "" },
  { Members: [member, { ...member, Name: "h2" }] },
  { Num: 1 },
  { Event: "member-join", Members: [member] },
  { Event: "user", LTime: 1, Name: "x", Payload: Buffer.from("x"), Coalesce: false },
  { Event: "query", ID: 1, LTime: 1, Name: "x", Payload: Buffer.from("x") },
  { Type: "response", From: "h2", Payload: Buffer.from("y") },
  { Coord: { Adjustment: 0.1, Error: 1.5, Height: 0.1, Vec: [0, 1, 2, 3, 4, 5, 6, 7] }, Ok: true },
  { agent: { name: "h1" }, serf: { members: "1" } },
];
const readers: readonly ((value: unknown) => unknown)[] = [
  ...[headerSchema, membersSchema, joinSchema, coordinateSchema, statsSchema].map(
    (schema) => (value: unknown) => checked(schema as never, value),
  ),
  toEvent,
  toQueryRecord,
];

const chunks = fc.array(
  fc.oneof(
    nearly(
      answers.map((value) => encode(value)),
      300,
    ),
    nearlyJson(answers.map((value) => JSON.parse(JSON.stringify(value)) as unknown)).map((value) =>
      Buffer.from(encode(value)),
    ),
  ),
  { minLength: 1, maxLength: 4 },
);

/** What a serf agent may send: bytes, then objects, then what they should mean. */
export const serf = fuzzTarget("serf-rpc", chunks, () => ({
  check(parts) {
    const reader = new FrameReader();
    for (const part of parts) {
      for (const value of reader.push(part)) {
        for (const read of readers) {
          try {
            read(value);
          } catch (error) {
            if (!(error instanceof Error && error.name === "NetworkError")) throw error;
          }
        }
      }
    }
  },
}));

const id = "0a0a0b02";
const messages = [
  writeEvent({ node: id as never, epoch: 1, sequence: 1, digest: "00".repeat(8) } as never),
  writeQuestion(3),
  encode([1, Buffer.alloc(4), 1, 1, Buffer.alloc(8), [Buffer.alloc(32), Buffer.alloc(32), "a", []]]),
];

/** What other nodes announce: a message as a whole, or nothing. */
export const gossip = fuzzTarget("gossip", nearly(messages, 800), () => ({
  check(bytes) {
    for (const read of [readEvent, readPage, readQuestion]) read(bytes);
  },
}));
