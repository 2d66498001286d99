import { once } from "node:events";
import { type AddressInfo, createServer, type Server } from "node:net";
import { describe, expect, it } from "vitest";
import { FrameReader, frame } from "./frames.ts";
import {
  cleanUpAfterEach,
  cleanups,
  dial,
  loopback,
  open,
  pass,
  query,
  stopClocks,
  turns,
  upstreamReply,
} from "./resolver-fixture.ts";

cleanUpAfterEach();

describe("a resolver over TCP", () => {
  const tcpUpstream = async (handler: (packet: Buffer) => Buffer | undefined | Promise<Buffer>) => {
    const server: Server = createServer((socket) => {
      const frames = new FrameReader();
      socket.on("error", () => {});
      socket.on("data", async (chunk) => {
        frames.feed(chunk);
        const reply = await handler(frames.next()!);
        if (reply) socket.write(frame(reply));
      });
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    cleanups.push(() => void server.close());
    return { address: loopback, port: (server.address() as AddressInfo).port };
  };

  it("answers pipelined queries however they are cut, also after the client's end", async () => {
    const client = dial(await open());
    const bytes = Buffer.concat([frame(query("web", 1)), frame(query("web", 2)), frame(query("x.front", 3))]);
    for (const byte of bytes.subarray(0, 40)) client.socket.write(Buffer.of(byte));
    client.socket.end(bytes.subarray(40));
    expect((await client.got(3)).map(({ id }) => id)).toEqual([1, 2, 3]);
    await client.closed;
  });

  it("forwards over TCP and checks what comes back", async () => {
    const at = await tcpUpstream((packet) => upstreamReply(packet, "10.3.3.3"));
    const liar = await tcpUpstream((packet) =>
      upstreamReply(packet, "6.6.6.6", { questions: [{ type: "A", name: "y" }] }),
    );
    const resolver = await open({ upstreams: () => [liar, at], timeout: 500 });
    const client = dial(resolver);
    client.socket.end(frame(query("www.example.com", 7)));
    const [reply] = await client.got(1);
    expect(reply).toMatchObject({ id: 7, answers: [{ data: "10.3.3.3" }] });
    await client.closed;
  });

  it("holds at most so many queries of a connection and answers all of them", async () => {
    const held: (() => void)[] = [];
    let most = 0;
    const slow = await tcpUpstream((packet) => {
      const { promise, resolve } = Promise.withResolvers<Buffer>();
      held.push(() => resolve(upstreamReply(packet)));
      most = Math.max(most, held.length);
      return promise;
    });
    const resolver = await open({ upstreams: () => [slow], maxInFlight: 4 });
    const client = dial(resolver);
    client.socket.write(Buffer.concat(Array.from({ length: 10 }, (_, i) => frame(query("www.example.com", i)))));
    while (client.replies.length < 10) {
      // Each release lets one more in: what is beyond the bound would have come meanwhile.
      const expected = Math.min(4, 10 - client.replies.length);
      while (held.length < expected) await turns(1);
      await turns();
      held.shift()?.();
      await client.got(client.replies.length + 1);
    }
    expect(client.replies.map(({ id }) => id).sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(most).toBe(4);
  });

  it("CVE-2024-8418: ends connections that send nothing whole, and those that send no DNS, while others are answered", async () => {
    stopClocks();
    const resolver = await open({ idle: 150 });
    const idle = dial(resolver);
    const slow = dial(resolver);
    slow.socket.setNoDelay();
    slow.socket.write(Buffer.of(0xff, 0xff));
    const empty = dial(resolver);
    empty.socket.write(Buffer.alloc(60_000));
    const reply = dial(resolver);
    reply.socket.write(frame(Buffer.alloc(40, 0xff)));
    const good = dial(resolver);
    good.socket.write(frame(query("web")));
    expect(await good.got(1)).toMatchObject([{ answers: [{ data: "172.19.0.2" }] }]);
    // No byte now and then keeps a connection.
    const ends = [idle, slow, empty, reply];
    await pass(
      () => ends.every(({ socket }) => socket.destroyed),
      () => slow.socket.writable && slow.socket.write("x"),
    );
  });

  it("CVE-2026-35406: whatever a connection sends, the work ends with its bytes, and others are answered", async () => {
    const resolver = await open({ idle: 300, maxConnections: 64 });
    const header = (questions: number, answers = 0) => {
      const bytes = Buffer.alloc(12);
      bytes.writeUInt16BE(0x0100, 2);
      bytes.writeUInt16BE(questions, 4);
      bytes.writeUInt16BE(answers, 6);
      return bytes;
    };
    const pointer = (at: number) => Buffer.from([0xc0 | (at >> 8), at & 0xff]);
    const question = (name: Buffer) => Buffer.concat([name, Buffer.from([0, 1, 0, 1])]);
    const messages = [
      Buffer.alloc(0),
      Buffer.alloc(1),
      header(0),
      header(65_535),
      header(1, 65_535),
      // A name that points to itself, one that points around, one that points past the end.
      Buffer.concat([header(1), question(pointer(12))]),
      Buffer.concat([header(1), Buffer.from([1, 97]), question(pointer(12))]),
      Buffer.concat([header(1), question(pointer(0x3fff))]),
      Buffer.concat([header(1), question(Buffer.alloc(65_000, 63))]),
      Buffer.concat([header(1), Buffer.from([64])]),
    ];
    const streams = [
      // Lengths alone: a message of nothing after another.
      Buffer.alloc(40_000),
      Buffer.alloc(40_000, 0xff),
      ...messages.map((message) => Buffer.concat(Array.from({ length: 50 }, () => frame(message)))),
      ...messages.map((message) => Buffer.concat([Buffer.from([0, 5]), message, frame(message)])),
    ];
    for (const stream of streams) {
      const { socket } = dial(resolver);
      socket.on("error", () => {});
      socket.write(stream.subarray(0, 3));
      socket.end(stream.subarray(3));
      const good = dial(resolver);
      good.socket.end(frame(query("web")));
      expect(await good.got(1)).toMatchObject([{ answers: [{ data: "172.19.0.2" }] }]);
      await good.closed;
      socket.destroy();
    }
  });

  it("ends connections that never read", { timeout: 30_000 }, async () => {
    const deaf = dial(await open({ idle: 100 }));
    deaf.socket.pause();
    const flood = Buffer.concat(Array.from({ length: 2000 }, () => frame(query("web"))));
    const write = () => {
      while (deaf.socket.writable && deaf.socket.write(flood));
    };
    deaf.socket.on("drain", write);
    write();
    // The reset shows in the write that waits: a paused client reads no end.
    await deaf.closed;
  });

  it("refuses connections beyond the bound", async () => {
    const resolver = await open({ maxConnections: 2 });
    const two = [dial(resolver), dial(resolver)];
    for (const { socket, got } of two) {
      socket.write(frame(query("web")));
      await got(1);
    }
    await dial(resolver).closed;
    for (const { socket, got } of two) {
      socket.write(frame(query("web")));
      await got(2);
    }
  });
});
