import type { AddressInfo } from "node:net";
import { createServer, type Server, type Socket } from "node:net";
import { decodeMulti, encode } from "@msgpack/msgpack";
import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { runs } from "../../../test/runs.ts";
import { NetworkError } from "../../errors.ts";
import { SerfRpcClient } from "./rpc-client.ts";

/** An agent that says what a test wants: for answers that no real one gives. */

type Reply = (command: string, sequence: number, hangUp: () => void) => Uint8Array | readonly Uint8Array[] | undefined;

const servers: Server[] = [];
const clients: SerfRpcClient[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  for (const server of servers.splice(0)) await new Promise((resolve) => server.close(resolve));
});

const ok = (sequence: number) => encode({ Seq: sequence, Error: "" });

const agent = async (reply: Reply): Promise<number> => {
  const server = createServer((socket: Socket) => {
    socket.on("error", () => undefined);
    // The client sends each request in one piece.
    socket.on("data", (chunk) => {
      let header: { Command: string; Seq: number } | undefined;
      for (const object of decodeMulti(chunk)) {
        const next = object as { Command?: string; Seq?: number };
        if (next.Command !== undefined) header = { Command: next.Command, Seq: next.Seq ?? 0 };
        const bodiless = ["members", "stats", "leave"].includes(header?.Command ?? "");
        if (!header || (next.Command !== undefined && !bodiless)) continue;
        const standard = ["handshake", "auth"].includes(header.Command) ? ok(header.Seq) : undefined;
        let last = false;
        const hangUp = () => {
          last = true;
        };
        const answer = reply(header.Command, header.Seq, hangUp) ?? standard;
        if (answer) for (const part of Array.isArray(answer) ? answer : [answer]) socket.write(part as Uint8Array);
        if (last) socket.end();
      }
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
};

const open = async (reply: Reply, timeout = 20_000) => {
  const port = await agent(reply);
  const client = await SerfRpcClient.connect({ host: "127.0.0.1", port, authKey: "k", timeout });
  clients.push(client);
  return client;
};

const member = (more: object = {}) => ({
  Name: "h1",
  Addr: new Uint8Array([10, 0, 0, 1]),
  Port: 7946,
  Tags: { id: "0000000a" },
  Status: "alive",
  ProtocolMin: 1,
  ...more,
});

describe("the client of serf's RPC", () => {
  it("reads members, and leaves out those that are not valid", async () => {
    const mapped = new Uint8Array([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 2]);
    const client = await open((command, sequence) =>
      command === "members"
        ? [
            ok(sequence),
            encode({
              Members: [
                member(),
                member({ Name: "h2", Addr: mapped, Status: "sleeping", Tags: null }),
                member({ Name: "a\nb" }),
                member({ Addr: new Uint8Array(5) }),
                member({ Port: 70_000 }),
                "x",
              ],
            }),
          ]
        : undefined,
    );
    expect(await client.members()).toEqual([
      { name: "h1", address: "10.0.0.1", port: 7946, status: "alive", tags: { id: "0000000a" } },
      { name: "h2", address: "10.0.0.2", port: 7946, status: "none", tags: {} },
    ]);
  });

  it("says what serf refuses, on one line, and goes on", async () => {
    const client = await open((command, sequence) =>
      command === "event" ? encode({ Seq: sequence, Error: "no\n\u001b[2J way" }) : undefined,
    );
    const refused = client.userEvent("e", Buffer.from("x"));
    await expect(refused).rejects.toMatchObject({ code: "serf-refused", message: "serf refuses event: no [2J way" });
    await expect(client.userEvent("e", Buffer.from("x"))).rejects.toMatchObject({ code: "serf-refused" });
  });

  it("refuses a wrong key", async () => {
    const port = await agent((command, sequence) =>
      command === "auth" ? encode({ Seq: sequence, Error: "Invalid authentication token" }) : undefined,
    );
    await expect(SerfRpcClient.connect({ host: "127.0.0.1", port, authKey: "k" })).rejects.toThrow(
      "serf refuses auth: Invalid authentication token",
    );
  });

  it("bounds what it sends, and says so", async () => {
    const sent: string[] = [];
    const client = await open((command, sequence) => {
      sent.push(command);
      return ok(sequence);
    });
    const text = "a user event holds at most 470 bytes, names included, not 471";
    await expect(client.userEvent("name", new Uint8Array(467))).rejects.toThrow(text);
    await expect(client.query("n", new Uint8Array(600), { timeout: 1, nodes: ["x".repeat(96)] })).rejects.toThrow(
      "a query holds at most 700 bytes, names included, not 701",
    );
    await expect(client.respond(1, new Uint8Array(801))).rejects.toThrow("at most 800 bytes");
    await client.userEvent("name", new Uint8Array(466));
    expect(sent).toEqual(["handshake", "auth", "event"]);
  });

  it("fails everything that waits when the connection ends or the answer makes no sense", async () => {
    const answers: readonly (readonly [string, Uint8Array])[] = [
      ["an answer to nothing that was asked", encode({ Seq: 99, Error: "" })],
      ["serf's answer is not as expected", encode({ Seq: "x", Error: "" })],
      ["serf's answer is malformed", new Uint8Array([0xc1])],
      ["serf's answer is malformed", new Uint8Array([0xdd, 0xff, 0xff, 0xff, 0xff])],
    ];
    for (const [reason, bytes] of answers) {
      const client = await open((command) => (command === "members" ? bytes : undefined));
      const waiting = [client.members(), client.stats()];
      for (const each of waiting) await expect(each).rejects.toMatchObject({ code: "serf-unavailable" });
      expect((await client.closed).message).toContain(reason);
      await expect(client.members()).rejects.toThrow(reason);
    }
  });

  it("gives up on an answer that does not come", async () => {
    const silent = await open((command) => (command === "members" ? new Uint8Array() : undefined), 200);
    await expect(silent.members()).rejects.toThrow("no answer to members in time");
    const abort = new AbortController();
    const waiting = silent.stats(abort.signal);
    abort.abort();
    await expect(waiting).rejects.toThrow("no answer to stats in time");
  });

  it("survives garbage: every call ends, with a typed error", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 200 }), fc.boolean(), async (bytes, afterHeader) => {
        const client = await open((command, sequence, hangUp) => {
          if (command !== "members") return undefined;
          hangUp();
          return afterHeader ? [ok(sequence), bytes] : bytes;
        });
        try {
          await client.members();
        } catch (error) {
          expect(error).toBeInstanceOf(NetworkError);
        } finally {
          client.close();
        }
      }),
      { numRuns: runs(60) },
    );
  });

  it("hands on events of members, users and queries, and the answers to a query", async () => {
    let stream = 0;
    const client = await open((command, sequence) => {
      if (command === "stream") stream = sequence;
      if (command === "stream") {
        const events = [
          { Event: "member-failed", Members: [member({ Status: "failed" })] },
          { Event: "user", LTime: 1, Name: "e", Payload: new Uint8Array([255, 0]), Coalesce: false },
          { Event: "query", ID: 7, LTime: 1, Name: "q", Payload: null },
          { Event: "moon-phase" },
        ];
        return [ok(sequence), ...events.flatMap((event) => [ok(stream), encode(event)])];
      }
      if (command === "query") {
        const records = [
          { Type: "ack", From: "h1", Payload: null },
          { Type: "response", From: "h1", Payload: new Uint8Array([254]) },
          { Type: "response", From: "", Payload: null },
          { Type: "done", From: "", Payload: null },
        ];
        return [ok(sequence), ...records.flatMap((record) => [ok(sequence), encode(record)])];
      }
      return undefined;
    });
    const events: unknown[] = [];
    for await (const event of await client.stream()) {
      events.push(event);
      if (events.length === 4) break;
    }
    expect(events).toMatchObject([
      { kind: "members", change: "member-failed", members: [{ name: "h1", status: "failed" }] },
      { kind: "user", name: "e", payload: Buffer.from([255, 0]) },
      { kind: "query", id: 7, name: "q", payload: Buffer.alloc(0) },
      { kind: "other" },
    ]);
    const answers: unknown[] = [];
    for await (const record of await client.query("q", new Uint8Array(), { timeout: 1_000 })) answers.push(record);
    expect(answers).toEqual([
      { kind: "ack", from: "h1" },
      { kind: "response", from: "h1", payload: Buffer.from([254]) },
    ]);
  });
});
