import { connect, type Socket } from "node:net";
import { encode } from "@msgpack/msgpack";
import type * as z from "zod";
import { errorText, type NetworkError, noService } from "../../errors.ts";
import { EventQueue } from "../event-queue.ts";
import { FrameReader } from "./frames.ts";
import { checkSize, maxAnswer, maxQuery, maxUserEvent, printable } from "./limits.ts";
import {
  type Coordinate,
  checked,
  coordinateSchema,
  headerSchema,
  joinSchema,
  type Member,
  membersSchema,
  type QueryRecord,
  type SerfEvent,
  type Stats,
  statsSchema,
  toEvent,
  toQueryRecord,
} from "./messages.ts";

export interface SerfRpcOptions {
  readonly host: string;
  readonly port: number;
  readonly authKey: string;
  /** Milliseconds until the connection must be there, and for one answer where no other time is given. */
  readonly timeout?: number;
  readonly signal?: AbortSignal;
}

/** Events and answers that may wait for a reader. */
const maxWaiting = 10_000;

interface Expected {
  /** Serf answers with a body after the header; it does so with an error too. */
  readonly hasBody: boolean;
  /** Milliseconds, where it is not the client's. */
  readonly timeout?: number;
  /** Takes the error of an answer whose body counts nevertheless. */
  readonly onComplaint?: (text: string) => void;
}

interface Waiting {
  readonly hasBody: boolean;
  readonly settle: (body: unknown) => void;
  readonly fail: (error: unknown) => void;
}

/** Takes the bodies of a stream or a query; false ends the connection. */
type Sink = { readonly take: (body: unknown) => boolean; readonly end: (error: unknown) => void };

const unavailable = (reason: string, cause?: unknown): NetworkError =>
  noService("serf-unavailable", `the serf agent does not answer: ${reason}`, { cause });

/** A client of a serf agent's RPC (version 1): MessagePack over one TCP connection. When it fails, all that waits fails with it. */
export class SerfRpcClient {
  readonly #socket: Socket;
  readonly #timeout: number;
  readonly #reader = new FrameReader();
  readonly #waiting = new Map<number, Waiting>();
  readonly #sinks = new Map<number, Sink>();
  /** Whose body comes next. */
  #next: ((body: unknown) => void) | undefined;
  #sequence = 0;
  #error: NetworkError | undefined;
  /** Resolves with the reason when the connection has ended. */
  readonly closed: Promise<NetworkError>;

  private constructor(socket: Socket, timeout: number) {
    this.#socket = socket;
    this.#timeout = timeout;
    const { promise, resolve } = Promise.withResolvers<NetworkError>();
    this.closed = promise;
    const end = (reason: string, cause?: unknown) => {
      this.#fail(unavailable(reason, cause));
      resolve(this.#error ?? unavailable(reason));
    };
    socket.on("data", (chunk) => {
      try {
        for (const object of this.#reader.push(chunk)) this.#take(object);
      } catch (error) {
        socket.destroy();
        end(errorText(error), error);
      }
    });
    socket.on("error", (error) => end(error.message, error));
    socket.on("close", () => end("the connection has ended"));
  }

  /** Connects, shakes hands and proves who we are. @throws NetworkError `serf-unavailable`, `serf-refused` */
  static async connect(options: SerfRpcOptions): Promise<SerfRpcClient> {
    const { host, port, authKey, timeout = 5_000, signal } = options;
    const limit = AbortSignal.any([AbortSignal.timeout(timeout), ...(signal ? [signal] : [])]);
    const socket = connect({ host, port, noDelay: true });
    const client = new SerfRpcClient(socket, timeout);
    const giveUp = () => socket.destroy(new Error("no connection in time"));
    limit.addEventListener("abort", giveUp, { once: true });
    try {
      await client.#call("handshake", { Version: 1 }, limit);
      await client.#call("auth", { AuthKey: authKey }, limit);
      return client;
    } catch (error) {
      client.close();
      throw error;
    } finally {
      limit.removeEventListener("abort", giveUp);
    }
  }

  members(signal?: AbortSignal): Promise<readonly Member[]> {
    return this.#ask("members", undefined, membersSchema, signal);
  }

  /**
   * Joins the cluster at `host:port` addresses, one after the other.
   * @param timeout milliseconds; serf gives each address up to 10 s
   * @returns how many answered, and serf's complaint about the others
   */
  async join(
    addresses: readonly string[],
    timeout: number,
    signal?: AbortSignal,
  ): Promise<{ readonly joined: number; readonly complaint: string }> {
    let complaint = "";
    const body = { Existing: addresses, Replay: false };
    const onComplaint = (text: string) => {
      complaint = printable(text);
    };
    const joined = await this.#send("join", body, { hasBody: true, timeout, onComplaint }, signal);
    return { joined: checked(joinSchema, joined), complaint };
  }

  /** Undefined where the agent knows no coordinate of that member yet. */
  coordinate(node: string, signal?: AbortSignal): Promise<Coordinate | undefined> {
    return this.#ask("get-coordinate", { Node: node }, coordinateSchema, signal);
  }

  stats(signal?: AbortSignal): Promise<Stats> {
    return this.#ask("stats", undefined, statsSchema, signal);
  }

  /** Sends an event to every member, this one included. @throws NetworkError `payload-too-large` past 470 bytes with its name */
  async userEvent(name: string, payload: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkSize("a user event", name, payload, maxUserEvent);
    await this.#call("event", { Name: name, Payload: payload, Coalesce: false }, signal);
  }

  /**
   * Asks every member, or those named. Ends after `timeout` (ms).
   * @throws NetworkError `payload-too-large` past 700 bytes with its name and theirs
   */
  async query(
    name: string,
    payload: Uint8Array,
    options: { readonly timeout: number; readonly nodes?: readonly string[]; readonly signal?: AbortSignal },
  ): Promise<AsyncIterable<QueryRecord>> {
    // Each name that it is for has a head of its own.
    checkSize("a query", [name, ...(options.nodes ?? [])].join("...."), payload, maxQuery);
    const queue = new EventQueue<QueryRecord>(maxWaiting);
    const sequence = this.#sequence;
    this.#sinks.set(sequence, {
      take: (body) => {
        const record = toQueryRecord(body);
        if (record.kind === "done") {
          this.#sinks.delete(sequence);
          queue.end();
          // Answers past the limit are dropped: one query must not end the connection.
        } else if (record.kind !== "other") queue.push(record);
        return true;
      },
      end: (error) => queue.end(error),
    });
    const body = {
      FilterNodes: options.nodes ?? [],
      FilterTags: {},
      RequestAck: false,
      RelayFactor: 0,
      // Go's time.Duration: nanoseconds.
      Timeout: Math.round(options.timeout) * 1_000_000,
      Name: name,
      Payload: payload,
    };
    try {
      await this.#call("query", body, options.signal);
    } catch (error) {
      this.#sinks.delete(sequence);
      throw error;
    }
    return queue;
  }

  /** Answers a query that came by the stream. @throws NetworkError `payload-too-large` past 800 bytes */
  async respond(id: number, payload: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkSize("the answer to a query", "", payload, maxAnswer);
    await this.#call("respond", { ID: id, Payload: payload }, signal);
  }

  /** Everything the agent hears from now on. A reader that is 10,000 events late ends the connection. */
  async stream(signal?: AbortSignal): Promise<AsyncIterable<SerfEvent>> {
    const queue = new EventQueue<SerfEvent>(maxWaiting);
    this.#sinks.set(this.#sequence, {
      take: (body) => queue.push(toEvent(body)),
      end: (error) => queue.end(error),
    });
    await this.#call("stream", { Type: "*" }, signal);
    return queue;
  }

  /** Has the agent leave the cluster in good order and end. @param timeout milliseconds */
  async leave(timeout: number): Promise<void> {
    await this.#send("leave", undefined, { hasBody: false, timeout });
  }

  close(): void {
    this.#socket.destroy();
    this.#fail(unavailable("the connection was closed"));
  }

  async #ask<T>(command: string, body: unknown, schema: z.ZodType<T>, signal?: AbortSignal): Promise<T> {
    return checked(schema, await this.#send(command, body, { hasBody: true }, signal));
  }

  async #call(command: string, body: unknown, signal?: AbortSignal): Promise<void> {
    await this.#send(command, body, { hasBody: false }, signal);
  }

  #send(command: string, body: unknown, expected: Expected, signal?: AbortSignal): Promise<unknown> {
    const { hasBody, onComplaint, timeout = this.#timeout } = expected;
    const sequence = this.#sequence++;
    if (this.#error) return Promise.reject(this.#error);
    return new Promise((resolve, reject) => {
      const limit = AbortSignal.any([AbortSignal.timeout(timeout), ...(signal ? [signal] : [])]);
      const done = () => limit.removeEventListener("abort", giveUp);
      // The answer may still come; until then its place stays taken.
      const giveUp = () => reject(unavailable(`no answer to ${command} in time`));
      limit.addEventListener("abort", giveUp, { once: true });
      if (limit.aborted) giveUp();
      this.#waiting.set(sequence, {
        hasBody,
        settle: (answer) => {
          done();
          resolve(answer);
        },
        fail: (error) => {
          done();
          if (typeof error !== "string") reject(error);
          else if (onComplaint) onComplaint(error);
          else reject(noService("serf-refused", `serf refuses ${command}: ${printable(error)}`));
        },
      });
      const header = encode({ Command: command, Seq: sequence });
      this.#socket.write(body === undefined ? header : Buffer.concat([header, encode(body)]));
    });
  }

  #take(object: unknown): void {
    const next = this.#next;
    if (next) {
      this.#next = undefined;
      next(object);
      return;
    }
    const { Seq, Error: complaint } = checked(headerSchema, object);
    const waiting = this.#waiting.get(Seq);
    if (waiting) {
      if (complaint !== "") waiting.fail(complaint);
      // It waits until the body is there, too: the connection may end in between.
      const settle = (body: unknown) => {
        this.#waiting.delete(Seq);
        waiting.settle(body);
      };
      if (waiting.hasBody) this.#next = settle;
      else settle(undefined);
      return;
    }
    const sink = this.#sinks.get(Seq);
    if (!sink) throw new Error("an answer to nothing that was asked");
    this.#next = (body) => {
      if (!sink.take(body)) throw new Error("too many events wait to be read");
    };
  }

  #fail(error: NetworkError): void {
    this.#error ??= error;
    for (const waiting of this.#waiting.values()) waiting.fail(this.#error);
    this.#waiting.clear();
    for (const sink of this.#sinks.values()) sink.end(this.#error);
    this.#sinks.clear();
  }
}
