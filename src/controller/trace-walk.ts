import type { Kernel, Observed, ObservedLink } from "../linux/kernel.ts";
import { hostNamespace, type NamespaceRef } from "../linux/plan.ts";
import type { Ip } from "../net/ip.ts";
import type { Context } from "./context.ts";
import type { SandboxRecord } from "./records.ts";
import type { Hop, Loss } from "./trace-model.ts";

/** Ends the walk: the packet goes no further than this. */
export class Lost extends Error {
  readonly loss: Loss;

  constructor(reason: string, hint?: string) {
    super(reason);
    this.loss = { reason, ...(hint !== undefined && { hint }) };
  }
}

/** What every part of the walk uses. */
export interface Walk {
  readonly context: Context;
  readonly kernel: Kernel;
  readonly destination: Ip;
  readonly sandbox: SandboxRecord;
  readonly hop: (hop: Hop) => void;
  readonly observe: (namespace: NamespaceRef) => Promise<Observed>;
  readonly signal?: AbortSignal;
}

export const commandIn = (namespace: NamespaceRef, command: string): string =>
  namespace === hostNamespace ? command : `nsenter --net=${namespace} ${command}`;

export const placeOf = (namespace: NamespaceRef): string =>
  namespace === hostNamespace ? "host" : `namespace ${namespace.slice(namespace.lastIndexOf("/") + 1)}`;

/** A link that is there and up. @throws Lost */
export const upLink = (observed: Observed, name: string, where: string): ObservedLink => {
  const link = observed.links.find((candidate) => candidate.name === name);
  if (!link) throw new Lost(`link ${name} of ${where} is gone`, "restart dnet: it restores what is missing");
  if (!link.up) throw new Lost(`link ${name} of ${where} is down`, `ip link set ${name} up, in ${where}`);
  return link;
};
