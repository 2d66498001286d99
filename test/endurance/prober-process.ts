// The probes of a live restart, as one process in the namespace of the world outside. Driven by messages: see probe-kinds.ts.
import { createSocket, type Socket as Datagrams } from "node:dgram";
import { connect as connectOutside, createServer, Socket } from "node:net";
import { Namespaces } from "../../src/linux/namespaces.ts";
import {
  type NamesReport,
  type ProbeKind,
  type ProbeOrder,
  type ProbeReport,
  type ProbeRequest,
  probeKinds,
} from "./probe-kinds.ts";
import { connect, counter, open } from "./probe-sockets.ts";

/** Milliseconds between two probes of a kind to the same port. */
const interval = 100;
/** Milliseconds after which a probe counts as lost. A packet on one machine is there at once or never; a busy machine may be late. */
const patience = 5_000;
/** Of the TCP ports, each n-th is called at each tick, in turns; a call costs more than all datagrams. */
const turns = 10;
/** Milliseconds between two questions for a name. */
const askEvery = 100;

const namespaces = new Namespaces();
const outside = "/proc/self/ns/net";
let order: ProbeOrder = { sandboxes: [], host: "", pairs: [] };
let ticking: NodeJS.Timeout | undefined;

interface Tally {
  sent: number;
  lost: number;
  longest: number;
}
const tally = Object.fromEntries(probeKinds.map((kind) => [kind, { sent: 0, lost: 0, longest: 0 }])) as Record<
  ProbeKind,
  Tally
>;
const losses: string[] = [];

/** Probes that wait for their answers, by what the answer says. */
const waiting = new Map<string, { readonly kind: ProbeKind; readonly what: string; readonly at: number }>();

const lose = (kind: ProbeKind, what: string, why: string): void => {
  tally[kind].lost++;
  if (losses.length < 20) losses.push(`${kind} ${what} at ${new Date().toISOString()}: ${why}`);
};
let number = 0;
const expectAnswer = (kind: ProbeKind, what: string): string => {
  const text = String(++number);
  tally[kind].sent++;
  waiting.set(text, { kind, what, at: performance.now() });
  return text;
};
const answered = (text: string): void => {
  const probe = waiting.get(text);
  if (!probe) return;
  waiting.delete(text);
  const one = tally[probe.kind];
  one.longest = Math.max(one.longest, performance.now() - probe.at);
};
const failed = (text: string, why: string): void => {
  const probe = waiting.get(text);
  waiting.delete(text);
  if (probe) lose(probe.kind, probe.what, why);
};
const giveUp = (older: number): void => {
  for (const [text, { at }] of waiting) if (performance.now() - at >= older) failed(text, "no answer");
};

/** Lines of a stream. */
const lines = (socket: Socket, each: (line: string) => void): void => {
  let rest = "";
  socket.setEncoding("utf8");
  socket.on("data", (text: string) => {
    const all = (rest + text).split("\n");
    rest = all.pop() ?? "";
    for (const line of all) each(line);
  });
};

const datagrams = (fd: number, onMessage: (text: string, socket: Datagrams, port: number, from: string) => void) => {
  const socket = createSocket({ type: "udp4", lookup: (address, _options, done) => done(null, address, 4) });
  socket.on("message", (bytes, from) => onMessage(bytes.toString("latin1"), socket, from.port, from.address));
  // A port that refuses is told on the socket; the probe that finds no answer counts it.
  socket.on("error", () => undefined);
  socket.bind({ fd });
  return socket;
};

const serve = (key: string): void => {
  datagrams(open(namespaces, key, "udp", 53), (text, socket, port, from) => socket.send(text, port, from));
  const server = createServer({ noDelay: true }, (socket) => {
    socket.on("error", () => undefined);
    socket.pipe(socket);
  });
  server.listen({ fd: open(namespaces, key, "tcp", 80) });
};

/** A connection that stays. */
const keep = (kind: ProbeKind, what: string, fd: number): (() => void) => {
  const socket = new Socket({ fd, readable: true, writable: true });
  socket.setNoDelay(true);
  let ended: string | undefined;
  socket.on("error", (error) => {
    ended = error.message;
  });
  socket.on("close", () => {
    ended ??= "closed";
  });
  lines(socket, answered);
  return () => {
    const text = expectAnswer(kind, what);
    if (ended === undefined) socket.write(`${text}\n`);
    else failed(text, ended);
  };
};

const callOnce = (port: number): void => {
  const text = expectAnswer("tcp port", String(port));
  const socket = connectOutside({ host: order.host, port, noDelay: true });
  socket.on("error", (error) => failed(text, error.message));
  socket.on("close", () => failed(text, "closed"));
  socket.on("connect", () => socket.write(`${text}\n`));
  lines(socket, (line) => {
    answered(line);
    socket.resetAndDestroy();
  });
  setTimeout(() => socket.destroy(), patience).unref();
};

const start = async (): Promise<void> => {
  const { sandboxes, pairs, host } = order;
  for (const { key } of sandboxes) serve(key);
  // A socket for some of the ports: answers come at once, and one socket's buffer holds less than 300.
  const plain = sandboxes.flatMap((_, n) =>
    n % 50 === 0 ? datagrams(open(namespaces, outside, "udp", 0), answered) : [],
  );
  const kept = sandboxes.map(({ tcpPort }) =>
    keep("kept connection", `port ${tcpPort}`, connect(namespaces, outside, host, tcpPort)),
  );
  const between = pairs.map(([from, to]) => {
    const [a, b] = [sandboxes[from], sandboxes[to]];
    if (!a || !b) throw new Error("no such pair");
    const socket = datagrams(open(namespaces, a.key, "udp", 0), answered);
    const connection = keep("kept connection", `${a.name} to ${b.name}`, connect(namespaces, a.key, b.address, 80));
    return () => {
      socket.send(expectAnswer("sandbox to sandbox", `${a.name} to ${b.name}`), 53, b.address);
      connection();
    };
  });
  let turn = 0;
  const tick = (): void => {
    for (const [n, { udpPort }] of sandboxes.entries())
      plain[Math.floor(n / 50)]?.send(expectAnswer("udp port", String(udpPort)), udpPort, host);
    for (const [n, { tcpPort }] of sandboxes.entries()) if (n % turns === turn) callOnce(tcpPort);
    for (const each of kept) each();
    for (const each of between) each();
    turn = (turn + 1) % turns;
    giveUp(patience);
  };
  tick();
  while (waiting.size > 0) {
    giveUp(patience);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  ticking = setInterval(tick, interval);
};

/** A question for the addresses of a name (RFC 1035 4.1). */
const question = (name: string): Buffer =>
  Buffer.concat([
    Buffer.from("000101000001000000000000", "hex"),
    ...name.split(".").map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)])),
    Buffer.from("0000010001", "hex"),
  ]);

/** Asks from every sandbox for its own name until each was answered. @returns the moments */
const askNames = async (of: number, freshSockets: boolean): Promise<readonly number[]> => {
  const asked = order.sandboxes.filter((_, n) => n % of === 0);
  const answers = new Map<string, number>();
  const sockets: Datagrams[] = [];
  const ask = asked.map(({ key, name }) => {
    const make = () => {
      const socket = datagrams(open(namespaces, key, "udp", 0), () => {
        if (!answers.has(name)) answers.set(name, Date.now());
      });
      sockets.push(socket);
      return socket;
    };
    const query = question(name);
    const kept = freshSockets ? undefined : make();
    return { name, ask: () => (kept ?? make()).send(query, 53, "127.0.0.11") };
  });
  while (answers.size < asked.length) {
    for (const each of ask) if (!answers.has(each.name)) each.ask();
    await new Promise((resolve) => setTimeout(resolve, askEvery));
    if (freshSockets) for (const socket of sockets.splice(0, sockets.length - 10 * asked.length)) socket.close();
  }
  for (const socket of sockets) socket.close();
  return [...answers.values()];
};

const namesReport = async (freshToo: boolean): Promise<NamesReport> => {
  const of = 4;
  const [fresh, kept] = await Promise.all([freshToo ? askNames(of, true) : [], askNames(of, false)]);
  return { asked: kept.length, fresh, kept };
};

const report = async (): Promise<ProbeReport> => {
  clearInterval(ticking);
  const end = performance.now() + patience;
  while (waiting.size > 0 && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 10));
  giveUp(0);
  const places = [outside, ...order.sandboxes.map(({ key }) => key)];
  const total = (protocol: "Tcp" | "Udp", name: string): number =>
    places.reduce((sum, place) => sum + counter(namespaces, place, protocol, name), 0);
  return {
    kinds: tally,
    losses,
    retransmissions: total("Tcp", "RetransSegs"),
    overflows: total("Udp", "RcvbufErrors"),
  };
};

let names: Promise<NamesReport> | undefined;
process.on("message", (request: ProbeRequest) => {
  const work = async (): Promise<unknown> => {
    switch (request.do) {
      case "open":
        order = request.order;
        return start();
      case "ask-names":
        names = namesReport(request.fresh);
        return undefined;
      case "names":
        return names;
      case "report":
        return report();
    }
  };
  work().then(
    (answer) => process.send?.({ answer }),
    (error: unknown) => process.send?.({ error: String(error instanceof Error ? error.stack : error) }),
  );
});
