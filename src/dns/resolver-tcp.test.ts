import { once } from "node:events";
import { type AddressInfo, createServer, type Server } from "node:net";
import { describe, expect, it } from "vitest";
import { FrameReader, frame } from "./frames.ts";
import { cleanups, dial, loopback, open, query, upstreamReply } from "./resolver-fixture.ts";

describe("a resolver over TCP", () => {
  const tcpUpstream = async (handler: (packet: Buffer) => Buffer | undefined) => {
    const server: Server = createServer((socket) => {
      const frames = new FrameReader();
      socket.on("error", () => {});
      socket.on("data", (chunk) => {
        frames.feed(chunk);
        const reply = handler(frames.next()!);
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
    let under = 0;
    let most = 0;
    const silent = await tcpUpstream(() => {
      most = Math.max(most, ++under);
      setTimeout(() => under--, 80);
      return undefined;
    });
    const resolver = await open({ upstreams: () => [silent], timeout: 100, maxInFlight: 4 });
    const client = dial(resolver);
    client.socket.write(Buffer.concat(Array.from({ length: 10 }, (_, i) => frame(query("www.example.com", i)))));
    expect((await client.got(10)).length).toBe(10);
    expect(most).toBeLessThanOrEqual(4);
  });

  it("ends connections that send nothing whole, and those that send no DNS, while others are answered", async () => {
    const resolver = await open({ idle: 150 });
    const idle = dial(resolver);
    const slow = dial(resolver);
    slow.socket.write(Buffer.of(0xff, 0xff));
    const drip = setInterval(() => slow.socket.write("x"), 20);
    const empty = dial(resolver);
    empty.socket.write(Buffer.alloc(60_000));
    const reply = dial(resolver);
    reply.socket.write(frame(Buffer.alloc(40, 0xff)));
    const good = dial(resolver);
    good.socket.write(frame(query("web")));
    expect(await good.got(1)).toMatchObject([{ answers: [{ data: "172.19.0.2" }] }]);
    await Promise.all([idle.closed, slow.closed, empty.closed, reply.closed]);
    clearInterval(drip);
  });

  it("ends connections that never read, and refuses those beyond the bound", async () => {
    const resolver = await open({ idle: 200, maxConnections: 2 });
    const deaf = dial(resolver);
    deaf.socket.pause();
    const flood = Buffer.concat(Array.from({ length: 2000 }, () => frame(query("web"))));
    const write = () => {
      while (deaf.socket.writable && deaf.socket.write(flood));
    };
    deaf.socket.on("drain", write);
    write();
    const second = dial(resolver);
    second.socket.write(frame(query("web")));
    await second.got(1);
    await dial(resolver).closed;
    expect(second.socket.destroyed).toBe(false);
    // The reset shows in the failing writes: a paused client reads no end.
    while (!deaf.socket.destroyed) {
      deaf.socket.write("x");
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  });
});
