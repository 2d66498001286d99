/** What the tests of the resolver share: a resolver with one name, upstreams and clients on the loopback. */
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { once } from "node:events";
import { connect } from "node:net";
import dns from "dns-packet";
import { afterEach, expect, vi } from "vitest";
import { parseIp } from "../net/ip.ts";
import { parsePrefix } from "../net/prefix.ts";
import { FrameReader } from "./frames.ts";
import { NameTable } from "./name-table.ts";
import { Resolver, type ResolverOptions } from "./resolver.ts";

export const local = { address: "127.0.0.1", port: 0 };
export const loopback = parseIp("127.0.0.1");
const table = new NameTable();
table.set("n1", "e1", { names: ["web"], addresses: [parseIp("172.19.0.2")] });
export const view = table.view({
  networks: [{ id: "n1", name: "front", subnets: [parsePrefix("172.19.0.0/16")] }],
  aliases: [],
  addresses: [],
});
export const query = (name: string, id = 99) =>
  dns.encode({ type: "query", id, flags: dns.RECURSION_DESIRED, questions: [{ type: "A", name }] });
export const upstreamReply = (packet: Buffer, data = "10.1.1.1", over: object = {}) => {
  const { id = 0, questions = [] } = dns.decode(packet);
  const name = questions[0]!.name;
  return dns.encode({ type: "response", id, questions, answers: [{ type: "A", name, data, ttl: 60 }], ...over });
};

export const cleanups: (() => unknown)[] = [];
/** Call it in every file that uses these: files share modules, and a hook is the file's that registers it. */
export const cleanUpAfterEach = () =>
  afterEach(async () => {
    vi.useRealTimers();
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });

export const open = async (over: Partial<ResolverOptions> = {}) => {
  const errors: unknown[] = [];
  const onError = (error: unknown) => void errors.push(error);
  const resolver = await Resolver.open({ udp: local, tcp: local, view, upstreams: () => undefined, onError, ...over });
  cleanups.push(async () => {
    await resolver.close();
    expect(errors).toEqual([]);
  });
  return resolver;
};
export const udpSocket = async () => {
  const socket = createSocket("udp4");
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  cleanups.push(() => void socket.close());
  return socket;
};
type Handler = (packet: Buffer, from: RemoteInfo, socket: Socket) => void;
export const upstream = async (handler: Handler) => {
  const socket = await udpSocket();
  const seen: Buffer[] = [];
  socket.on("message", (packet, from) => {
    seen.push(packet);
    handler(packet, from, socket);
  });
  return { seen, at: { address: loopback, port: socket.address().port } };
};
export const answering =
  (data: string, over: object = {}): Handler =>
  (packet, from, socket) =>
    socket.send(upstreamReply(packet, data, over), from.port, from.address);
export const ask = async (resolver: Resolver, packet: Buffer): Promise<dns.DecodedPacket & { rcode?: string }> => {
  const client = await udpSocket();
  client.send(packet, resolver.udpPort, "127.0.0.1");
  const [reply] = (await once(client, "message", { signal: AbortSignal.timeout(4000) })) as [Buffer];
  return dns.decode(reply);
};
export const addresses = (reply: dns.DecodedPacket) => reply.answers?.map((record) => "data" in record && record.data);

/** A TCP client: what came back so far, and the end of the connection. */
export const dial = (resolver: Resolver) => {
  const socket = connect(resolver.tcpPort, "127.0.0.1");
  cleanups.push(() => void socket.destroy());
  const frames = new FrameReader();
  const replies: dns.DecodedPacket[] = [];
  const closed = new Promise((resolve) => socket.on("close", resolve));
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    frames.feed(chunk);
    for (let next = frames.next(); next; next = frames.next()) replies.push(dns.decode(next));
    socket.emit("replies");
  });
  const got = async (count: number) => {
    while (replies.length < count) await once(socket, "replies", { signal: AbortSignal.timeout(3000) });
    return replies;
  };
  return { socket, replies, closed, got };
};

/** Lets what is under way in this process arrive: sockets over the loopback need some turns of the event loop. */
export const turns = async (count = 5) => {
  for (let n = 0; n < count; n++) await new Promise((resolve) => setImmediate(resolve));
};

/** Stops the resolver's clocks, so that a slow machine changes nothing. */
export const stopClocks = () => vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });

/** Lets time pass in small steps, with work in each, until a condition holds; the test's own deadline ends it otherwise. */
export const pass = async (done: () => boolean, work: () => void = () => {}) => {
  while (!done()) {
    work();
    await turns();
    vi.advanceTimersByTime(20);
  }
};
