import { parse, TomlError } from "smol-toml";
import * as z from "zod";
import { parseDiscovery } from "../cluster/discovery.ts";
import { checkEncryptKey } from "../cluster/serf/agent-config.ts";
import { badRequest, errorText, type NetworkError } from "../errors.ts";
import { distance } from "../suggest.ts";
import { providers, storeConfigSchema } from "./global-store.ts";

/** The daemon's configuration file (TOML). Keys are matched without regard to case, as the original's reader does. */

const path = z
  .string()
  .refine((text) => text.startsWith("/") && !text.includes("\0") && !text.split("/").includes(".."), {
    message: "must be an absolute path without ..",
  });
const text = z.string().max(4096);
const port = z.int().min(1).max(65535);
/** Text that a reader elsewhere must understand; its error, without the field's name, which stands before it anyway. */
const checkedBy = (read: (text: string) => unknown) =>
  text.superRefine((value, context) => {
    try {
      if (value !== "") read(value);
    } catch (error) {
      context.addIssue({ code: "custom", message: errorText(error).replace(/^invalid [a-z.]+: /, "") });
    }
  });

const storeClient = z.strictObject({
  provider: z.enum(providers, `unknown provider; there are ${providers.join(" and ")}`),
  address: text,
  config: storeConfigSchema.optional(),
});

const configShape = z.strictObject({
  title: text.optional(),
  daemon: z
    .strictObject({
      debug: z.boolean().optional(),
      dataDir: path.optional(),
      execRoot: path.optional(),
      defaultNetwork: text.optional(),
      defaultDriver: text.optional(),
      labels: z.array(text).optional(),
      hosts: z.array(text).optional(),
      /** Names under which clients may address the API over TCP, beside IP addresses and localhost. */
      hostNames: z.array(text).optional(),
      firewall: z.enum(["nftables", "none"]).optional(),
      /** Seconds for which programs in sandboxes may keep the addresses of names. */
      dnsTtl: z.int().min(0).max(86_400).optional(),
      /** Seconds between two looks at bridges and sandboxes; 0: what others change stays until the next start. */
      repair: z.int().min(0).max(3600).optional(),
    })
    .optional(),
  cluster: z
    .strictObject({
      discovery: checkedBy(parseDiscovery).optional(),
      address: text.optional(),
      heartbeat: z.int().min(1).max(3600).optional(),
      serf: z.boolean().optional(),
      serfPort: port.optional(),
      /** Of serf's RPC on the loopback; any free one without it. */
      serfRpcPort: port.optional(),
      /** Key of the gossip: base64 of 16, 24 or 32 bytes. */
      encrypt: checkedBy(checkEncryptKey).optional(),
    })
    .optional(),
  /** How endpoints on other hosts are followed: docs/overlay.md. */
  overlay: z
    .strictObject({
      peersAhead: z.int().min(0).max(1_000_000).optional(),
      /** Seconds. */
      repair: z.int().min(1).max(3600).optional(),
      /** Seconds. */
      idle: z.int().min(1).max(86_400).optional(),
    })
    .optional(),
  scopes: z.partialRecord(z.enum(["global", "local"]), z.strictObject({ client: storeClient.optional() })).optional(),
  /** Of the original's first releases; read, and said to be without effect. */
  datastore: z.record(z.string(), z.unknown()).optional(),
  /** Networks that span hosts without a shared store: peers and names travel through the gossip. */
  orchestration: z
    .strictObject({
      agent: z.boolean().optional(),
      /** What `cluster.address` is. */
      bind: text.optional(),
      /** Nodes to join: `host[:port]`, several with commas. */
      peer: checkedBy((value) => parseDiscovery(`nodes://${value}`)).optional(),
    })
    .optional(),
});

/** What goes together, and what does not. */
export const configSchema = configShape.superRefine(({ orchestration = {}, scopes, cluster }, context) => {
  if (!orchestration.agent) return;
  const refuse = (path: string[], message: string) => context.addIssue({ code: "custom", path, message });
  if (scopes?.global?.client) {
    refuse(
      ["orchestration", "agent"],
      "it does without a shared store, and [scopes.global.client] names one: keep one of them",
    );
  }
  if (cluster?.serf === false) refuse(["cluster", "serf"], "orchestration.agent needs serf");
  if (cluster?.discovery && orchestration.peer) {
    refuse(["orchestration", "peer"], "cluster.discovery says how the nodes find each other: keep one of them");
  }
});
export type Config = z.infer<typeof configSchema>;

/**
 * Reads a configuration.
 * @param file its name, for errors
 * @throws NetworkError `invalid-config` that gives file, line and field
 */
export const parseConfig = (source: string, file: string): Config => {
  let document: unknown;
  try {
    document = parse(source);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const [reason = "not TOML"] = error.message.replace(/^Invalid TOML document: /, "").split("\n");
    throw invalid(file, error.line, undefined, reason);
  }
  const checked = configSchema.safeParse(canonical(document));
  if (!checked.success) {
    const [issue] = checked.error.issues;
    const [unknown] = issue?.code === "unrecognized_keys" ? issue.keys : [];
    const field = [...(issue?.path ?? []), ...(unknown === undefined ? [] : [unknown])].map(String);
    const reason = unknown === undefined ? (issue?.message ?? "invalid") : `unknown key${suggestion(unknown)}`;
    throw invalid(file, lineOf(source, field), field, reason);
  }
  return checked.data;
};

const invalid = (
  file: string,
  line: number | undefined,
  field: readonly string[] | undefined,
  reason: string,
): NetworkError => {
  const where = line === undefined ? file : `${file}, line ${line}`;
  const what = field === undefined || field.length === 0 ? "" : `${field.join(".")}: `;
  return badRequest("invalid-config", `Error parsing config ${where}: ${what}${reason}`);
};

/** Every key of the schema, for matching without regard to case. */
const knownKeys = [
  ...["title", "daemon", "cluster", "scopes", "datastore", "orchestration", "global", "local", "client"],
  ...[
    "debug",
    "dataDir",
    "execRoot",
    "defaultNetwork",
    "defaultDriver",
    "labels",
    "hosts",
    "hostNames",
    "firewall",
    "dnsTtl",
  ],
  ...["discovery", "address", "heartbeat", "serf", "serfPort", "provider", "config", "agent", "bind", "peer"],
  ...["serfRpcPort", "encrypt", "overlay", "peersAhead", "repair", "idle"],
] as const;
const byLowerCase = new Map<string, string>(knownKeys.map((key) => [key.toLowerCase(), key]));

const canonical = (value: unknown, inside = ""): unknown => {
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof Date) return value;
  // What lies below these is not ours to rename.
  if (inside === "config" || inside === "datastore") return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => {
      const name = byLowerCase.get(key.toLowerCase()) ?? key;
      return [name, canonical(inner, name)];
    }),
  );
};

const suggestion = (key: string): string => {
  const near = knownKeys.find((known) => distance(known.toLowerCase(), key.toLowerCase()) <= 2);
  return near === undefined ? "" : `; did you mean ${near}?`;
};

/** The line (from 1) where a field is set, or its table begins; undefined where it cannot be told. */
const lineOf = (source: string, field: readonly string[]): number | undefined => {
  const wanted = field.map((part) => part.toLowerCase());
  let table: readonly string[] = [];
  let best: { readonly line: number; readonly depth: number } | undefined;
  for (const [index, line] of source.split("\n").entries()) {
    const header = /^\s*\[+\s*([^\]]+?)\s*\]+/.exec(line)?.[1];
    const key = /^\s*([A-Za-z0-9_."'-]+)\s*=/.exec(line)?.[1];
    if (header !== undefined)
      table = header.split(".").map((part) => part.trim().replaceAll(/["']/g, "").toLowerCase());
    const path = key === undefined ? table : [...table, ...key.replaceAll(/["']/g, "").toLowerCase().split(".")];
    if (header === undefined && key === undefined) continue;
    const common = Math.min(path.length, wanted.length);
    const depth = path.slice(0, common).every((part, n) => part === wanted[n]) ? common : 0;
    if (depth > (best?.depth ?? 0)) best = { line: index + 1, depth };
  }
  return best?.line;
};
