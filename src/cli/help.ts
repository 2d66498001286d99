import type { Command, CommandGroup } from "./command.ts";
import { flagHelp } from "./flags.ts";

/** Help screens: the original's words first, then what teaches. */

export const topHelp = (groups: readonly Pick<CommandGroup, "name" | "summary">[], version: string): string => `NAME:
   dnet - A self-sufficient runtime for container networking.

USAGE:
   dnet [global options] command [command options] [arguments...]

VERSION:
   ${version}

COMMANDS:
${groups.map(({ name, summary }) => `   ${name}\t${summary}\n`).join("")}   help, h\tShows a list of commands or help for one command

GLOBAL OPTIONS:
   -d, --daemon\t\t\t\t\tEnable daemon mode
   -H, --host \t\t\t\t\tDaemon socket to connect to: unix:///path or tcp://address:port
   -l, --log-level "info"\t\t\tSet the logging level
   -D, --debug\t\t\t\t\tEnable debug mode: every kernel operation is logged as a command
   -c, --cfg-file "/etc/default/libnetwork.toml"\tConfiguration file
   --help, -h\t\t\t\t\tshow help
   --version, -v\t\t\t\tprint the version

ENVIRONMENT:
   DNET_HOST\t\tthe same as -H
   LIBNETWORK_CFG\tthe same as -c

TRY IT:
   dnet -d &                            start the daemon (as root)
   dnet network create web              a bridge network
   dnet container create c1             a sandbox: a network namespace of its own
   dnet service publish c1.web          an endpoint, with an address and a name
   dnet service attach c1 c1.web        an interface eth0 in the sandbox
   dnet container info c1               how to enter it
`;

const groupOptions: Readonly<Record<string, (command: Command) => string>> = {
  service: ({ name, brief }) => `    ${name.padEnd(9)} ${brief}\n`,
};

export const groupUsage = (group: CommandGroup): string => {
  const line = groupOptions[group.name] ?? (({ name, brief }: Command) => `  ${name.padEnd(24)} ${brief}\n`);
  return `
Usage: dnet ${group.name} [OPTIONS] COMMAND [OPTIONS] [arg...]

Commands:
${group.commands.map(line).join("")}
Run 'dnet ${group.name} COMMAND --help' for more information on a command.

`;
};

export const groupHelp = (group: CommandGroup): string => `${groupUsage(group)}  --help             Print usage\n`;

export const commandUsage = (group: CommandGroup, command: Command): string => `
Usage: ${["dnet", group.name, command.name, "[OPTIONS]", command.operands].filter(Boolean).join(" ")}

${command.summary}

`;

export const commandHelp = (group: CommandGroup, command: Command): string =>
  `${commandUsage(group, command)}${flagHelp(command.flags)}
Examples:
${command.examples.map((example) => `  ${example}\n`).join("")}`;
