import { suggest } from "../suggest.ts";
import { Client, ClientError, defaultHost } from "./client.ts";
import type { Command, CommandGroup } from "./command.ts";
import { containerGroup } from "./commands/container.ts";
import { doctorCommand } from "./commands/doctor.ts";
import { explainGroup } from "./commands/explain.ts";
import { firewallGroup } from "./commands/firewall.ts";
import { gcCommand } from "./commands/gc.ts";
import { labGroup } from "./commands/lab.ts";
import { networkGroup } from "./commands/network.ts";
import { nodeGroup } from "./commands/node.ts";
import { serviceGroup } from "./commands/service.ts";
import { traceCommand } from "./commands/trace.ts";
import { type Flag, type Parsed, parseFlags, UsageError } from "./flags.ts";
import { commandHelp, commandUsage, groupHelp, groupUsage, topHelp } from "./help.ts";

/** What the command line is given by its process. */
export interface Io {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: (text: string) => void;
  readonly stderr: (text: string) => void;
  readonly version: string;
  /** Runs the daemon; loaded only when it is asked for. @returns the exit status */
  readonly runDaemon: (options: DaemonFlags) => Promise<number>;
}

export interface DaemonFlags {
  readonly debug: boolean;
  readonly logLevel: string;
  readonly host?: string;
  readonly configPath?: string;
}

const groups: readonly CommandGroup[] = [
  networkGroup,
  serviceGroup,
  containerGroup,
  nodeGroup,
  explainGroup,
  firewallGroup,
  labGroup,
];
/** Commands of no group. */
const alone: CommandGroup = { name: "", summary: "", commands: [traceCommand, doctorCommand, gcCommand] };
const words = (group: CommandGroup, command: Command): string =>
  group === alone ? command.name : `${group.name} ${command.name}`;
/** Commands whose output may be out of date while the daemon's store is away; others say so by failing. */
const shows = ["ls", "info"];
const levels = ["panic", "fatal", "error", "warn", "warning", "info", "debug"];

const globalFlags: readonly Flag[] = [
  { names: ["daemon", "d"], kind: "boolean", help: "" },
  { names: ["host", "H"], kind: "string", help: "" },
  { names: ["log-level", "l"], kind: "string", help: "" },
  { names: ["debug", "D"], kind: "boolean", help: "" },
  { names: ["cfg-file", "c"], kind: "string", help: "" },
  { names: ["help", "h"], kind: "boolean", help: "" },
  { names: ["version", "v"], kind: "boolean", help: "" },
];
const helpFlag: Flag = { names: ["help", "h"], kind: "boolean", help: "" };

/** Something is wrong with what was typed: `out` goes to standard output, `message` to standard error. */
class Refusal extends Error {
  readonly out: string;

  constructor(message: string, out = "") {
    super(message);
    this.out = out;
  }
}

/** Runs the command line. @returns the exit status: 0, or 1 with a reason on standard error */
export const main = async (args: readonly string[], io: Io): Promise<number> => {
  try {
    return await run(args, io);
  } catch (error) {
    if (error instanceof Refusal) io.stdout(error.out);
    else if (!(error instanceof ClientError) && !(error instanceof UsageError)) throw error;
    io.stderr(`${error.message}\n`);
    return 1;
  }
};

const run = async (args: readonly string[], io: Io): Promise<number> => {
  const globals = globalArguments(args);
  const [word, ...rest] = globals.positional;
  if (globals.boolean("version")) {
    io.stdout(`dnet version ${io.version}\n`);
    return 0;
  }
  if (globals.boolean("help")) return help([], io);
  const logLevel = globals.string("log-level") ?? "info";
  if (!levels.includes(logLevel.toLowerCase())) throw new Refusal(`Unable to parse logging level: ${logLevel}`);
  const host = globals.string("host");
  if (globals.boolean("daemon")) {
    if (word !== undefined) throw new Refusal(`dnet: a daemon takes no command, but there is ${JSON.stringify(word)}`);
    const configPath = globals.string("cfg-file");
    return io.runDaemon({
      debug: globals.boolean("debug"),
      logLevel,
      ...(host !== undefined && { host }),
      ...(configPath !== undefined && { configPath }),
    });
  }
  if (word === undefined) return help([], io);
  if (word === "help" || word === "h") return help(rest, io);
  const daemon = host || io.env.DNET_HOST || defaultHost;
  const single = alone.commands.find(({ name }) => name === word);
  if (single) return runAlone(single, rest, daemon, io);
  const group = groups.find(({ name }) => name === word);
  if (!group) throw unknownCommand(word);
  return runGroup(group, rest, daemon, io);
};

/** Some commands tell with their status what they found; then not having been able to look is another one. */
const runAlone = async (command: Command, args: readonly string[], host: string, io: Io): Promise<number> => {
  try {
    return await runCommand(alone, command, args, host, io);
  } catch (error) {
    if (command.trouble === undefined || !(error instanceof Refusal || error instanceof ClientError)) throw error;
    io.stderr(`${error.message}\n`);
    return command.trouble;
  }
};

const globalArguments = (args: readonly string[]): Parsed => {
  try {
    return parseFlags(globalFlags, args, true);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new Refusal(`${error.message}\nSee 'dnet --help'.`);
  }
};

const unknownCommand = (word: string): Refusal => {
  const names = [...groups, ...alone.commands].map(({ name }) => name);
  const near = suggest(word, names);
  const hint = near === undefined ? "" : `\nDid you mean 'dnet ${near}'?`;
  return new Refusal(`dnet: '${word}' is not a dnet command.${hint}\nSee 'dnet --help'.`);
};

const help = (words: readonly string[], io: Io): number => {
  const [groupName, commandName] = words;
  if (groupName === undefined) {
    const singles = alone.commands.map(({ name, brief }) => ({ name, summary: brief }));
    io.stdout(topHelp([...groups, ...singles], io.version));
    return 0;
  }
  const single = alone.commands.find(({ name }) => name === groupName);
  if (single) {
    io.stdout(commandHelp(alone, single));
    return 0;
  }
  const group = groups.find(({ name }) => name === groupName);
  if (!group) throw unknownCommand(groupName);
  const command = group.commands.find(({ name }) => name === commandName);
  if (commandName !== undefined && !command) throw unknownSubcommand(group, commandName);
  io.stdout(command ? commandHelp(group, command) : groupHelp(group));
  return 0;
};

const unknownSubcommand = (group: CommandGroup, word: string): Refusal => {
  const near = suggest(
    word,
    group.commands.map(({ name }) => name),
  );
  const hint = near === undefined ? "" : `\nDid you mean 'dnet ${group.name} ${near}'?`;
  return new Refusal(`invalid command : [${word}]${hint}\nSee 'dnet ${group.name} --help'.`, groupUsage(group));
};

const runGroup = async (group: CommandGroup, args: readonly string[], host: string, io: Io): Promise<number> => {
  const [word, ...rest] = args;
  if (word === undefined) {
    throw new Refusal(
      `dnet: "${group.name}" requires a minimum of 1 argument.\nSee 'dnet ${group.name} --help'.`,
      groupUsage(group),
    );
  }
  if (["--help", "-h", "-help"].includes(word)) return help([group.name], io);
  if (word === "help" || word === "h") return help([group.name, ...rest], io);
  if (word.startsWith("-")) {
    throw new Refusal(`flag provided but not defined: ${word}\nSee 'dnet ${group.name} --help'.`);
  }
  const command = group.commands.find(({ name }) => name === word);
  if (!command) throw unknownSubcommand(group, word);
  return runCommand(group, command, rest, host, io);
};

const runCommand = async (
  group: CommandGroup,
  command: Command,
  args: readonly string[],
  host: string,
  io: Io,
): Promise<number> => {
  const see = `See 'dnet ${words(group, command)} --help'.`;
  try {
    const parsed = parseFlags([...command.flags, helpFlag], args);
    if (parsed.boolean("help")) return help(words(group, command).split(" "), io);
    checkOperands(group, command, parsed.positional.length);
    const format = parsed.string("format") ?? "table";
    if (format !== "table" && format !== "json") {
      throw new UsageError(`invalid value ${JSON.stringify(format)} for flag --format: it is table or json`);
    }
    const client = new Client(host);
    const context = { client, print: io.stdout, warn: io.stderr, json: format === "json" };
    const status = await command.run(context, parsed);
    if (client.staleSince !== "" && shows.includes(command.name)) {
      io.stderr(
        `warning: the daemon cannot ask its store since ${client.staleSince.slice(0, 32)}: this may be out of date\n`,
      );
    }
    return status ?? 0;
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new Refusal(`${error.message}\n${see}`);
  }
};

const checkOperands = (group: CommandGroup, command: Command, given: number): void => {
  const [fewest, most] = command.count;
  if (given >= fewest && given <= most) return;
  if (command.missing !== undefined && given < fewest) throw new Refusal(command.missing);
  const number = most === 0 ? "no arguments" : fewest > 1 ? `a minimum of ${fewest} arguments` : `${fewest} argument`;
  throw new Refusal(
    `dnet: "${command.name}" requires ${number}.\nSee 'dnet ${words(group, command)} --help'.`,
    commandUsage(group, command),
  );
};
