import type { TraceResource } from "../../api/resources.ts";
import { ClientError } from "../client.ts";
import { type Command, formatFlag, jsonText } from "../command.ts";
import { findSandbox } from "../lookups.ts";

const text = ({ destination, hops, lost, ping }: TraceResource, name: string): string => {
  const width = Math.max(0, ...hops.map(({ where }) => where.length)) + 2;
  const lines = [
    `trace from container ${name} to ${destination}`,
    ...hops.flatMap(({ where, what, command }, n) => [
      `${String(n + 1).padStart(3)}  ${where.padEnd(width)}${what}`,
      ...(command === undefined ? [] : [`${" ".repeat(5 + width)}$ ${command}`]),
    ]),
    ...(lost ? [`lost: ${lost.reason}`, ...(lost.hint === undefined ? [] : [`      ${lost.hint}`])] : []),
    ...(ping
      ? [`ping: ${ping.received} of ${ping.sent} answered${ping.average === undefined ? "" : `, ${ping.average} ms`}`]
      : []),
  ];
  return lines.map((line) => `${line}\n`).join("");
};

export const traceCommand: Command = {
  name: "trace",
  operands: "CONTAINER DESTINATION",
  count: [2, 2],
  brief: "Follow a packet from a container, hop by hop",
  summary:
    "Says hop by hop where a packet from a container goes and why, and where it would be lost, as the kernel tells it",
  flags: [{ names: ["ping"], kind: "boolean", help: "Send echo requests too" }, formatFlag],
  examples: ["dnet trace c1 10.0.3.3", "dnet trace --ping c1 c2.web", "dnet trace c1 198.51.100.7"],
  async run({ client, print, warn, json }, args) {
    const [name = "", to = ""] = args.positional;
    const sandbox = await findSandbox(client, name);
    if (!sandbox) throw new ClientError(`resource not found ${name}`);
    const query = new URLSearchParams({ to, ...(args.boolean("ping") && { ping: "true" }) });
    const found = await client.call<TraceResource>("GET", `/sandboxes/${sandbox.id}/trace?${query}`);
    print(json ? jsonText(found) : text(found, sandbox.container_id));
    if (args.boolean("ping") && !found.ping) warn("warning: the daemon's host could not run ping\n");
    return found.lost ? 1 : 0;
  },
};
