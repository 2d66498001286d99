import { once } from "node:events";
import { type AddressInfo, createServer, type Server } from "node:net";
import { describe, expect, it } from "vitest";
import { FrameReader, frame } from "./frames.ts";
import { cleanups, dial, loopback, open, pass, query, stopClocks, turns, upstreamReply } from "./resolver-fixture.ts";

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

  it("ends connections that send nothing whole, and those that send no DNS, while others are answered", async () => {
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
