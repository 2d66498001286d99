import { constants } from "node:os";
import type { NetworkError } from "../../errors.ts";
import type { Lab } from "../../lab/lab.ts";
import type { LabState, StoreKind } from "../../lab/lab-state.ts";
import { ClientError } from "../client.ts";
import { type Command, type CommandContext, type CommandGroup, formatFlag, jsonText } from "../command.ts";
import { type Flag, type Parsed, UsageError } from "../flags.ts";
import { table } from "../table.ts";

const nameFlag: Flag = { names: ["name"], kind: "string", help: "The lab's name; not needed where only one runs" };

/** The lab's code is loaded on demand: other commands start without it. */
const labModule = () => import("../../lab/lab.ts");

/**
 * Refusals of the lab are shown as those of a daemon are. Recognised by name: the lab's bundle has a class of its own.
 */
const told = async <T>(work: Promise<T>): Promise<T> => {
  try {
    return await work;
  } catch (error) {
    const { name, message, hint } = error as Partial<NetworkError>;
    if (name !== "NetworkError") throw error;
    throw new ClientError(hint === undefined ? `${message}` : `${message}\n${hint}`);
  }
};

/** A command on a running lab. */
const withLab =
  <T>(work: (lab: Lab, args: Parsed, context: CommandContext) => Promise<T>) =>
  async (context: CommandContext, args: Parsed): Promise<T> => {
    const { Lab } = await labModule();
    return told(Lab.open(args.string("name")).then((lab) => work(lab, args, context)));
  };

const number = (args: Parsed, flag: string): number | undefined => {
  const text = args.string(flag);
  if (text === undefined) return undefined;
  if (!/^\d{1,6}$/.test(text)) throw new UsageError(`invalid value ${JSON.stringify(text)} for flag --${flag}`);
  return Number(text);
};

const labTable = (labs: readonly LabState[]): string =>
  table(
    ["LAB", "HOST", "ADDRESS", "STATE", "REACHED WITH"],
    labs.flatMap(({ name, hosts, store, outside }) => [
      ...hosts.map((host) => [name, host.name, host.address, host.daemon, `dnet -H ${host.api}`]),
      ...(store ? [[name, "store", store.address, store.server, `${store.kind} ${store.endpoint} (from inside)`]] : []),
      [name, outside.name, outside.address, "-", "dnet lab exec outside -- ..."],
    ]),
  );

const up: Command = {
  name: "up",
  operands: "",
  count: [0, 0],
  brief: "Start hosts, a LAN, a store and a daemon on each host",
  summary: `Starts several hosts on this machine. A host is a set of namespaces (network, mounts, processes, host name) with private
/var/run, /var/lib/docker and /etc/docker, and with a daemon of its own. They share a LAN 172.17.0.0/16, a store on
it, and a gateway whose NAT leads to an outside, 203.0.113.2. This machine's network is not touched; only the
loopback ports 41000, 41001, ... lead in, one to each daemon. As an ordinary user, a lab gets a user namespace.`,
  flags: [
    { names: ["hosts"], kind: "string", help: "How many (1 to 32)", standard: "3" },
    {
      names: ["store"],
      kind: "string",
      help: "consul, etcd, storeless (gossip alone), or embedded-single: one host without a cluster",
      standard: "etcd",
    },
    { names: ["name"], kind: "string", help: "The lab's name", standard: "lab" },
    { names: ["port"], kind: "string", help: "The first daemon's port on this machine's loopback", standard: "41000" },
    formatFlag,
  ],
  examples: [
    "dnet lab up --hosts 2 --store consul",
    "dnet -H tcp://127.0.0.1:41000 network ls",
    "dnet lab exec dnet-1 -- ip route",
    "dnet lab down",
  ],
  async run({ print, warn, json }, args) {
    const { Lab } = await labModule();
    const interrupt = new AbortController();
    const onSignal = () => interrupt.abort(new ClientError("interrupted: the lab is taken down again"));
    process.once("SIGINT", onSignal).once("SIGTERM", onSignal);
    const hosts = number(args, "hosts");
    const port = number(args, "port");
    const [store, name] = [args.string("store") as StoreKind | undefined, args.string("name")];
    const lab = await told(
      Lab.up({
        ...(hosts !== undefined && { hosts }),
        ...(port !== undefined && { port }),
        ...(store !== undefined && { store }),
        ...(name !== undefined && { name }),
        detached: true,
        progress: (text) => warn(`${text}\n`),
        signal: interrupt.signal,
      }),
    );
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
    const state = await told(lab.state());
    print(json ? jsonText(state) : labTable([state]));
  },
};

const ls: Command = {
  name: "ls",
  operands: "",
  count: [0, 0],
  brief: "List the running labs and their hosts",
  summary: "Lists your running labs: hosts, stores, where each daemon is reached, and what is parted",
  flags: [formatFlag],
  examples: ["dnet lab ls", "dnet lab ls --format json"],
  async run({ print, json }) {
    const { Lab } = await labModule();
    const states = await told(Lab.list().then((labs) => Promise.all(labs.map((lab) => lab.state()))));
    if (json) return print(jsonText(states));
    print(labTable(states));
    for (const { name, partitions } of states)
      for (const [a, b] of partitions) print(`${name}: no traffic between ${a} and ${b} (dnet lab heal)\n`);
  },
};

const exec: Command = {
  name: "exec",
  operands: "HOST -- COMMAND [ARG...]",
  count: [2, Number.POSITIVE_INFINITY],
  brief: "Run a command on a host",
  summary: `Runs a command inside a host (dnet-1, ...), the store, the outside, or the LAN's own namespace (lan), with your terminal
and in your directory, and exits with its status. Without --, flags of the command would be taken for dnet's.`,
  flags: [nameFlag],
  examples: [
    "dnet lab exec dnet-1 -- ping -c 1 dnet-2",
    "dnet lab exec dnet-1 -- dnet network ls",
    "dnet lab exec dnet-1 -- consul kv export",
    "dnet lab exec lan -- tcpdump -ni lan0",
    "dnet lab exec dnet-1 -- bash",
  ],
  run: withLab(async (lab, { positional }) => {
    const [host = "", ...command] = positional;
    // A terminal's signals reach the command itself; this process waits for what it makes of them.
    for (const signal of ["SIGINT", "SIGQUIT"] as const) process.on(signal, () => undefined);
    const child = await lab.place(host).spawn(command, { stdio: "inherit" });
    return new Promise<number>((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (status, signal) => resolve(status ?? 128 + (signal ? constants.signals[signal] : 0)));
    });
  }),
};

const parties = (text: string | undefined): readonly string[] => (text ?? "").split(",").filter((name) => name !== "");

const partition: Command = {
  name: "partition",
  operands: "A B",
  count: [2, 2],
  brief: "Drop all traffic between two machines",
  summary: `Drops what passes between A and B, both ways: hosts, or the store; several with commas. What was parted before stays
parted. End it with: dnet lab heal`,
  flags: [nameFlag],
  examples: ["dnet lab partition dnet-1 dnet-2", "dnet lab partition dnet-1 store,dnet-2,dnet-3"],
  run: withLab((lab, { positional: [a, b] }) => lab.partition(parties(a), parties(b))),
};

const heal: Command = {
  name: "heal",
  operands: "",
  count: [0, 0],
  brief: "End all partitions",
  summary: "Ends all partitions: every machine reaches every other again",
  flags: [nameFlag],
  examples: ["dnet lab heal"],
  run: withLab((lab) => lab.heal()),
};

const kill: Command = {
  name: "kill",
  operands: "HOST",
  count: [1, 1],
  brief: "Kill a host's daemon (SIGKILL)",
  summary: "Ends a host's daemon with SIGKILL. Its sandboxes stay; start it again with: dnet lab start HOST",
  flags: [nameFlag, { names: ["term"], kind: "boolean", help: "SIGTERM, as a service manager stops it" }],
  examples: ["dnet lab kill dnet-2"],
  run: withLab((lab, args) => lab.host(args.positional[0] ?? "").kill(args.boolean("term") ? "TERM" : "KILL")),
};

const start: Command = {
  name: "start",
  operands: "HOST",
  count: [1, 1],
  brief: "Start a host's daemon",
  summary: "Starts a host's daemon again, where it does not run, and waits until it answers",
  flags: [
    nameFlag,
    { names: ["fresh"], kind: "boolean", help: "On a new machine: namespaces, /var/run and /var/lib/docker are gone" },
  ],
  examples: ["dnet lab start dnet-2", "dnet lab start --fresh dnet-2"],
  run: withLab((lab, args) => lab.host(args.positional[0] ?? "").start({ fresh: args.boolean("fresh") })),
};

const reboot: Command = {
  name: "reboot",
  operands: "HOST",
  count: [1, 1],
  brief: "Power a host off and on",
  summary: `Takes a host's power away and gives it back: processes, namespaces, interfaces, rules and /var/run are gone; what is on disk
(/var/lib/docker, /etc/docker) stays. The daemon is started again.`,
  flags: [nameFlag],
  examples: ["dnet lab reboot dnet-1"],
  run: withLab((lab, args) => lab.host(args.positional[0] ?? "").reboot()),
};

const store: Command = {
  name: "store",
  operands: "stop|start",
  count: [1, 1],
  brief: "Stop or start the store",
  summary: "Stops the lab's Consul or etcd, or starts it again with the data it had",
  flags: [nameFlag],
  examples: ["dnet lab store stop", "dnet lab store start"],
  run: withLab((lab, { positional: [word] }) => {
    if (word === "stop") return lab.store.stop();
    if (word === "start") return lab.store.start();
    throw new UsageError(`dnet lab store ${word}: it is stop or start`);
  }),
};

const logs: Command = {
  name: "logs",
  operands: "HOST",
  count: [1, 1],
  brief: "Print the log of a host's daemon, or of the store",
  summary:
    "Prints what a host's daemon, or the store, has logged. The file's path is printed first, on standard error: tail -f it",
  flags: [nameFlag],
  examples: ["dnet lab logs dnet-1", "dnet lab logs store"],
  run: withLab(async (lab, { positional: [name = ""] }, { print, warn }) => {
    const { path, text } = await lab.logs(name);
    warn(`${path}\n`);
    print(text);
  }),
};

const down: Command = {
  name: "down",
  operands: "",
  count: [0, 0],
  brief: "End a lab; nothing of it is left",
  summary: "Ends a lab: every process, namespace, interface, mount and file of it",
  flags: [nameFlag],
  examples: ["dnet lab down", "dnet lab down --name try"],
  run: withLab((lab) => lab.down()),
};

export const labGroup: CommandGroup = {
  name: "lab",
  summary: "Several hosts on this machine, to try and to test",
  commands: [up, ls, exec, partition, heal, kill, start, reboot, store, logs, down],
};
