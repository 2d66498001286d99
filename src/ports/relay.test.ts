import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, createServer, connect as netConnect, type Server, type Socket } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { NetworkError } from "../errors.ts";
import { bind, close, errno, SOCK, socket } from "../linux/libc.ts";
import { openSockets, reuseAddress, socketAddress } from "../linux/sockets.ts";
import { parseIp } from "../net/ip.ts";
import { RelayLimits } from "./relay-limits.ts";
import { addressFor, isLoopback, type RelayTarget } from "./relay-target.ts";
import { TcpRelay } from "./tcp-relay.ts";
import { UdpRelay } from "./udp-relay.ts";

const local = parseIp("127.0.0.1");
const target: RelayTarget = { address4: local, address6: undefined };
const closing: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const work of closing.splice(0).reverse()) await work();
});

const held = (protocol: "tcp" | "udp"): { fd: number; port: number } => {
  const [opened] = openSockets([{ protocol, address: local, port: 0, hold: { listen: protocol === "tcp" } }]);
  if (!opened) throw new Error("no socket");
  return opened;
};

/** A server whose connections are handled by `serve`. */
const server = async (serve: (socket: Socket) => void): Promise<number> => {
  const made: Server = createServer({ allowHalfOpen: true }, serve);
  made.listen(0, "127.0.0.1");
  await once(made, "listening");
  closing.push(() => made.close());
  return (made.address() as AddressInfo).port;
};

const tcpRelay = (port: number, limits = new RelayLimits(8), to = target): number => {
  const { fd, port: own } = held("tcp");
  const relay = new TcpRelay(fd, to, port, limits);
  closing.push(() => relay.close());
  return own;
};

const connect = (port: number): Socket => {
  const made = netConnect({ port, host: "127.0.0.1", allowHalfOpen: true });
  closing.push(() => made.destroy());
  return made;
};

const all = async (from: Socket): Promise<Buffer> => {
  const chunks: Buffer[] = [];
  from.on("data", (chunk: Buffer) => chunks.push(chunk));
  await once(from, "end");
  return Buffer.concat(chunks);
};

/** How a connection ends: an error's code, or `end`. */
const ending = (from: Socket): Promise<string> =>
  new Promise((resolve) => {
    from.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? "?"));
    from.on("end", () => resolve("end"));
    from.resume();
  });

describe("the TCP relay", () => {
  it("carries megabytes both ways, and each end by itself", async () => {
    const sent = Buffer.alloc(8 * 1024 * 1024, "x");
    // Answers only when the client has said all: a half-closed connection must live.
    const inner = await server((peer) => void all(peer).then((heard) => peer.end(heard)));
    const client = connect(tcpRelay(inner));
    client.end(sent);
    expect((await all(client)).equals(sent)).toBe(true);
  });

  it("resets the client where the sandbox refuses or has no address", async () => {
    const { fd, port } = held("tcp");
    close(fd);
    expect(await ending(connect(tcpRelay(port)))).toBe("ECONNRESET");
    const nowhere = { address4: undefined, address6: undefined };
    expect(await ending(connect(tcpRelay(port, undefined, nowhere)))).toBe("ECONNRESET");
  });

  it("passes a reset on", async () => {
    const inner = await server((peer) => peer.once("data", () => peer.resetAndDestroy()));
    const client = connect(tcpRelay(inner));
    client.write("x");
    expect(await ending(client)).toBe("ECONNRESET");
  });

  it("serves so many and no more, and again when one is gone", async () => {
    const inner = await server((peer) => peer.pipe(peer));
    const limits = new RelayLimits(1);
    const port = tcpRelay(inner, limits);
    const first = connect(port);
    first.write("x");
    await once(first, "data");
    expect(limits.count).toBe(1);
    expect(await ending(connect(port))).toBe("ECONNRESET");
    first.end();
    expect(await ending(first)).toBe("end");
    while (limits.count > 0) await new Promise((resolve) => setImmediate(resolve));
    const next = connect(port);
    next.write("y");
    expect(String((await once(next, "data"))[0])).toBe("y");
  });
});

const udp = async (onMessage?: (socket: UdpSocket, text: string, port: number) => void): Promise<UdpSocket> => {
  const made = createSocket("udp4");
  made.on("message", (text, from) => onMessage?.(made, text.toString(), from.port));
  made.bind(0, "127.0.0.1");
  await once(made, "listening");
  closing.push(() => made.close());
  return made;
};

const udpRelay = async (port: number, limits: RelayLimits) => {
  const { fd, port: own } = held("udp");
  const relay = await UdpRelay.open(fd, 4, target, port, limits);
  closing.push(() => relay.close());
  return { relay, port: own };
};

describe("the UDP relay", () => {
  it("answers each client with what is its own", async () => {
    const inner = await udp((socket, text, port) => socket.send(`${text} ${port}`, port, "127.0.0.1"));
    const { port } = await udpRelay(inner.address().port, new RelayLimits(8));
    const clients = await Promise.all([udp(), udp()]);
    const answers = await Promise.all(
      clients.map(async (client, n) => {
        client.send(`hello ${n}`, port, "127.0.0.1");
        return String((await once(client, "message"))[0]).split(" ");
      }),
    );
    expect(answers.map(([, n]) => n)).toEqual(["0", "1"]);
    expect(answers[0]?.[2]).not.toBe(answers[1]?.[2]);
  });

  it("forgets the client that was silent longest when there are too many", async () => {
    const inner = await udp((socket, text, port) => socket.send(`${text} ${port}`, port, "127.0.0.1"));
    const limits = new RelayLimits(2);
    const { relay, port } = await udpRelay(inner.address().port, limits);
    const clients = await Promise.all([udp(), udp(), udp()]);
    const ask = async (n: number): Promise<string> => {
      clients[n]?.send("x", port, "127.0.0.1");
      return String((await once(clients[n] as UdpSocket, "message"))[0]);
    };
    const [first, second] = [await ask(0), await ask(1)];
    expect(await ask(0)).toBe(first);
    await ask(2);
    expect(limits.count).toBe(2);
    expect(await ask(0)).toBe(first);
    expect(await ask(1)).not.toBe(second);
    relay.retarget();
    expect(limits.count).toBe(0);
  });

  it("has its port for itself, though libuv says that it may be shared (31)", async () => {
    const { port } = await udpRelay(9, new RelayLimits(1));
    const fd = socket(2, SOCK.DGRAM, 0);
    try {
      reuseAddress(fd, true);
      expect(() => bind(fd, socketAddress(local, port))).toThrow(NetworkError);
      expect(() => bind(fd, socketAddress(local, port))).toThrow(expect.objectContaining({ errno: errno.EADDRINUSE }));
    } finally {
      close(fd);
    }
  });
});

describe("clients", () => {
  it.each([
    ["127.0.0.1", true],
    ["127.255.1.2", true],
    ["::1", true],
    ["::ffff:127.0.0.1", true],
    ["203.0.113.1", false],
    ["::ffff:203.0.113.1", false],
    ["fe80::1", false],
    ["::127.0.0.1", false],
    [undefined, false],
  ])("%s is on the loopback: %s", (address, expected) => expect(isLoopback(address)).toBe(expected));

  it("are led to an address of their own family where there is one", () => {
    const both: RelayTarget = { address4: local, address6: parseIp("fd00::2") };
    expect(addressFor(both, "::1")).toBe("fd00::2");
    expect(addressFor(both, "::ffff:127.0.0.1")).toBe("127.0.0.1");
    expect(addressFor(target, "::1")).toBe("127.0.0.1");
    expect(addressFor({ address4: undefined, address6: parseIp("fd00::2") }, "127.0.0.1")).toBe("fd00::2");
  });
});
