import type { ExplanationResource } from "../../api/resources.ts";
import { ClientError } from "../client.ts";
import { type Command, type CommandContext, type CommandGroup, formatFlag, jsonText } from "../command.ts";
import { findNetwork, findSandbox, findService } from "../lookups.ts";

/** Printed so that it reads as a script: a comment, then the commands that would make the object. */
const script = ({ operations, omitted, note }: ExplanationResource): string =>
  [
    ...(note === undefined ? [] : [`# ${note}`]),
    ...operations.map(({ what, command }) => `# ${what}\n${command}`),
    ...(omitted > 0 ? [`# and ${omitted} more`] : []),
  ]
    .map((text) => `${text}\n`)
    .join("");

const explain = async ({ client, print, json }: CommandContext, path: string): Promise<void> => {
  const explanation = await client.call<ExplanationResource>("GET", `${path}/explain`);
  print(json ? jsonText(explanation) : script(explanation));
};

const command = (
  name: string,
  operands: string,
  example: string,
  find: (context: CommandContext, text: string) => Promise<string>,
): Command => ({
  name,
  operands,
  count: [1, 1],
  brief: `The kernel objects of a ${name}`,
  summary: `Shows the kernel objects that make up a ${name} on this host, each with the commands that would create it`,
  flags: [formatFlag],
  examples: [`dnet explain ${name} ${example}`],
  run: async (context, args) => explain(context, await find(context, args.positional[0] ?? "")),
});

export const explainGroup: CommandGroup = {
  name: "explain",
  summary: "Show what the kernel has of an object, as commands",
  commands: [
    command(
      "network",
      "NETWORK",
      "web",
      async ({ client }, text) => `/networks/${(await findNetwork(client, text)).id}`,
    ),
    command(
      "service",
      "SERVICE[.NETWORK]",
      "c1.web",
      async ({ client }, text) => `/services/${(await findService(client, text)).id}`,
    ),
    command("container", "CONTAINER", "c1", async ({ client }, text) => {
      const sandbox = await findSandbox(client, text);
      if (!sandbox) throw new ClientError(`resource not found ${text}`);
      return `/sandboxes/${sandbox.id}`;
    }),
  ],
};
