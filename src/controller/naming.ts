import { lstatSync, readFileSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { hostsFile, resolvConf, type SandboxFiles, sandboxFiles } from "../dns/files.ts";
import { NameTable, type PrivateAlias, type SandboxView, type ViewScope } from "../dns/name-table.ts";
import { answersIn } from "../dns/probe-resolver.ts";
import { redirectedBy, resolverAddress, resolverRedirect } from "../dns/redirect.ts";
import { Resolver } from "../dns/resolver.ts";
import type { HostUpstreams, Upstream } from "../dns/upstreams.ts";
import { badRequest, errorText, noService } from "../errors.ts";
import { descriptorLimit, freeDescriptors } from "../linux/descriptors.ts";
import type { Kernel } from "../linux/kernel.ts";
import { type Plan, plan } from "../linux/plan.ts";
import type { Redirect } from "../linux/redirect.ts";
import { parseIp } from "../net/ip.ts";
import { addressOf } from "../net/prefix.ts";
import type { Log, Naming, NamingProblem } from "./context.ts";
import { News } from "./news.ts";
import type { EndpointRecord, SandboxRecord } from "./records.ts";
import { sideBySide } from "./side-by-side.ts";
import type { State } from "./state.ts";

export interface SandboxNamingOptions {
  readonly state: State;
  readonly kernel: Kernel;
  /** Directory of the sandboxes' directories: `/var/lib/docker/network/files`. */
  readonly directory: string;
  /** Path of a sandbox's network namespace. */
  readonly namespaceOf: (sandbox: SandboxRecord) => string;
  /** The host's own resolver configuration: servers, search domains, and what a sandbox on the host's stack gets. */
  readonly hostUpstreams: HostUpstreams;
  readonly files?: SandboxFiles;
  /** Its own by default. */
  readonly table?: NameTable;
  /** Seconds for which answers about our own names may be kept; default 0. */
  readonly ttl?: number;
  readonly log: Log;
}

interface Running {
  readonly view: SandboxView;
  readonly resolver: Resolver | undefined;
  /** Leads port 53 to the resolver. */
  readonly redirect: Redirect | undefined;
  /** Writes of the sandbox's hosts file, one after the other. */
  writing: Promise<void>;
}

const loopback = parseIp(resolverAddress);

/** Descriptors that resolvers leave to everything else: the API, the store, programs that are started. */
const reserve = 40;
/** With as many for each resolver and for the rest of the daemon there is surely room. */
const ample = { each: 4, rest: 256 } as const;

/**
 * Resolvers of many sandboxes must not take the descriptors by which the daemon can be spoken to.
 * @param limit the process's; what is left of it is counted only where that is not ample
 * @throws NetworkError `few-descriptors`
 */
const requireDescriptors = (limit: number, running: number): void => {
  if (limit > ample.rest + running * ample.each || freeDescriptors() > reserve) return;
  throw noService("few-descriptors", "too many open files: no resolver can be started", {
    hint: "start the daemon with a higher limit: LimitNOFILE= of systemd, or ulimit -n",
  });
};

/**
 * Whether a file has exactly this text, and which mode it has. At once: four round trips to another thread would take ten times as
 * long, for each file of each sandbox of a start.
 */
const holds = (path: string, text: string): { readonly mode: number } | undefined => {
  try {
    const found = lstatSync(path);
    const same = found.isFile() && found.size === Buffer.byteLength(text) && readFileSync(path, "utf8") === text;
    return same ? { mode: found.mode & 0o7777 } : undefined;
  } catch {
    return undefined;
  }
};

/** Names of sandboxes: one table for the daemon, a resolver and two files for each sandbox. */
export class SandboxNaming implements Naming {
  readonly #options: SandboxNamingOptions;
  readonly #files: SandboxFiles;
  readonly #table: NameTable;
  readonly #running = new Map<string, Running>();
  /** Files that could not be written when they changed, by path, and why. */
  readonly #unwritten = new Map<string, string>();
  readonly #descriptors = descriptorLimit();
  readonly #news: News;

  constructor(options: SandboxNamingOptions) {
    this.#options = options;
    this.#files = options.files ?? sandboxFiles;
    this.#table = options.table ?? new NameTable();
    this.#news = new News(() => options.state.followed.global?.());
    for (const endpoint of options.state.endpoints.values()) this.#name(endpoint);
  }

  async prepare(sandbox: SandboxRecord): Promise<void> {
    await this.#files.makeDirectory(join(this.#options.directory, sandbox.id));
  }

  async open(sandbox: SandboxRecord, signal?: AbortSignal, fresh = false): Promise<void> {
    const running = this.#running.get(sandbox.id);
    if (running) {
      running.writing = running.writing.then(() => this.#writeResolvConf(sandbox, fresh));
      return this.#refresh(sandbox.id);
    }
    const view = this.#table.view(this.#scope(sandbox));
    const [opened, ...written] = await Promise.allSettled([
      sandbox.host ? undefined : this.#resolver(sandbox, view, signal),
      this.#writeResolvConf(sandbox, fresh),
      this.#writeHosts(sandbox, fresh),
    ]);
    if (opened.status === "rejected") throw opened.reason;
    const { resolver, redirect } = opened.value ?? { resolver: undefined, redirect: undefined };
    for (const result of written) {
      if (result.status === "fulfilled") continue;
      await resolver?.close();
      throw result.reason;
    }
    this.#running.set(sandbox.id, { view, resolver, redirect, writing: Promise.resolve() });
  }

  async resume(signal?: AbortSignal): Promise<void> {
    await sideBySide([...this.#options.state.sandboxes.values()], async (sandbox) => {
      if (sandbox.host || this.#running.has(sandbox.id)) return;
      const view = this.#table.view(this.#scope(sandbox));
      const opened = await this.#resolver(sandbox, view, signal).catch(() => undefined);
      if (opened) this.#running.set(sandbox.id, { view, ...opened, writing: Promise.resolve() });
    });
  }

  plan(sandbox: SandboxRecord): Plan {
    const { redirect } = this.#running.get(sandbox.id) ?? {};
    return redirect ? plan({ op: "nft.redirect", namespace: this.#options.namespaceOf(sandbox), redirect }) : plan();
  }

  async #resolver(
    sandbox: SandboxRecord,
    view: SandboxView,
    signal?: AbortSignal,
  ): Promise<Pick<Running, "resolver" | "redirect">> {
    const { kernel, log } = this.#options;
    const namespace = this.#options.namespaceOf(sandbox);
    requireDescriptors(this.#descriptors, this.#running.size);
    const [udp, tcp] = await kernel.openSockets(
      namespace,
      [
        { protocol: "udp", address: loopback, port: 0, redirectedBy },
        { protocol: "tcp", address: loopback, port: 0, redirectedBy },
      ],
      signal,
    );
    if (!udp || !tcp) throw new Error("the kernel opened no sockets");
    const resolver = await Resolver.open({
      udp: { fd: udp.fd },
      tcp: { fd: tcp.fd },
      view,
      upstreams: () => this.#upstreams(sandbox.id),
      news: () => this.#news.wait(),
      ttl: this.#options.ttl ?? 0,
      onError: (error) => log("warning", `resolver of container ${sandbox.container}: ${errorText(error)}`),
    });
    try {
      const redirect = resolverRedirect(udp.port, tcp.port);
      if (!udp.redirected || !tcp.redirected)
        await kernel.apply(plan({ op: "nft.redirect", namespace, redirect }), signal);
      return { resolver, redirect };
    } catch (error) {
      await resolver.close();
      throw error;
    }
  }

  /** Undefined where no network of the sandbox has a way out: an internal network leaks nothing through us (CVE-2024-29018). */
  #upstreams(sandboxId: string): readonly Upstream[] | undefined {
    const { state, hostUpstreams } = this.#options;
    const sandbox = state.sandboxes.get(sandboxId);
    const networks = state.endpointsIn(sandboxId).map(({ network }) => state.networks.get(network));
    if (!sandbox || !networks.some((network) => network && !network.internal)) return undefined;
    return sandbox.dns.length > 0 ? sandbox.dns.map((address) => ({ address })) : hostUpstreams.current();
  }

  async changed(endpoint: EndpointRecord | undefined, before: EndpointRecord | undefined): Promise<void> {
    const about = endpoint ?? before;
    if (!about) return;
    // What is so now counts: a watch's word of what was written before may come after what this node has done since.
    const now = this.#options.state.endpoints.get(about.id);
    if (now) this.#name(now);
    else this.#table.remove(about.network, about.id);
    const touched = new Set([endpoint?.sandbox?.id, before?.sandbox?.id]);
    await Promise.all([...touched].map((id) => this.#refresh(id ?? "")));
  }

  /** An endpoint has names while a sandbox answers at its addresses. */
  #name(endpoint: EndpointRecord): void {
    if (!endpoint.sandbox) {
      this.#table.remove(endpoint.network, endpoint.id);
      return;
    }
    this.#table.set(endpoint.network, endpoint.id, {
      names: [endpoint.name, ...endpoint.aliases, endpoint.sandbox.container],
      addresses: endpoint.addresses.map(addressOf),
    });
  }

  async #refresh(sandboxId: string): Promise<void> {
    const running = this.#running.get(sandboxId);
    const sandbox = this.#options.state.sandboxes.get(sandboxId);
    if (!running || !sandbox) return;
    running.view.update(this.#scope(sandbox));
    running.writing = running.writing.then(() => this.#writeHosts(sandbox));
    await running.writing;
  }

  #scope(sandbox: SandboxRecord): ViewScope {
    const { state } = this.#options;
    const endpoints = state.endpointsIn(sandbox.id);
    return {
      networks: endpoints.flatMap(({ network }) => {
        const record = state.networks.get(network);
        if (!record) return [];
        const { id, name, scope } = record;
        return [{ id, name, spansHosts: scope === "global", subnets: record.subnets.map(({ pool }) => pool) }];
      }),
      aliases: endpoints.flatMap((endpoint) => (endpoint.sandbox?.aliases ?? []).map((text) => alias(endpoint, text))),
      addresses: endpoints.flatMap(({ addresses }) => addresses.map(addressOf)),
    };
  }

  async #writeHosts(sandbox: SandboxRecord, fresh = false): Promise<void> {
    const endpoints = this.#options.state.endpointsIn(sandbox.id);
    const text = hostsFile({
      hostName: sandbox.hostName || sandbox.container,
      domainName: sandbox.domainName,
      addresses: endpoints.flatMap(({ addresses }) => addresses.map(addressOf)),
      names: [sandbox.container],
      extraHosts: sandbox.extraHosts,
    });
    await this.#write(sandbox, "hosts", sandbox.hostsPath, text, fresh);
  }

  async #writeResolvConf(sandbox: SandboxRecord, fresh: boolean): Promise<void> {
    const host = this.#options.hostUpstreams.file();
    const search = sandbox.dnsSearch.length > 0 ? sandbox.dnsSearch : host.search;
    // A sandbox on the host's stack asks whom the host asks.
    const text = sandbox.host ? host.text : resolvConf({ search, options: sandbox.dnsOptions });
    await this.#write(sandbox, "resolv.conf", sandbox.resolvConfPath, text, fresh);
  }

  async #write(
    sandbox: SandboxRecord,
    name: "hosts" | "resolv.conf",
    elsewhere: string | undefined,
    text: string,
    fresh: boolean,
  ): Promise<void> {
    const path = elsewhere ?? join(this.#options.directory, sandbox.id, name);
    const found = holds(path, text);
    if (found?.mode === 0o644) {
      this.#unwritten.delete(path);
      return;
    }
    try {
      await this.#files.write(path, text);
      this.#unwritten.delete(path);
    } catch (error) {
      if (fresh && elsewhere !== undefined) {
        throw badRequest("invalid-path", `invalid path of ${name}: ${errorText(error)}`, { cause: error });
      }
      // On a file system that is read-only now, what was written before stands.
      if (found) {
        this.#unwritten.delete(path);
        return;
      }
      this.#unwritten.set(path, errorText(error));
      this.#options.log("warning", `could not write ${path}: ${errorText(error)}`);
    }
  }

  async examine(sandbox: SandboxRecord, signal?: AbortSignal): Promise<readonly NamingProblem[]> {
    const directory = join(this.#options.directory, sandbox.id);
    const files = [
      { part: "hosts", path: sandbox.hostsPath ?? join(directory, "hosts") },
      { part: "resolv.conf", path: sandbox.resolvConfPath ?? join(directory, "resolv.conf") },
    ] as const;
    const problems = await Promise.all(
      files.map(async ({ part, path }): Promise<readonly NamingProblem[]> => {
        const found = await stat(path).catch(() => undefined);
        if (!found?.isFile()) return [{ part, what: `${path} is ${found ? "no file" : "not there"}` }];
        const reason = this.#unwritten.get(path);
        return reason === undefined
          ? []
          : [{ part, what: `${path} is out of date: it could not be written: ${reason}` }];
      }),
    );
    const resolver = sandbox.host ? undefined : await this.#examineResolver(sandbox, signal);
    return [...problems.flat(), ...(resolver === undefined ? [] : [{ part: "resolver" as const, what: resolver }])];
  }

  /** @returns what is wrong with the resolver */
  async #examineResolver(sandbox: SandboxRecord, signal?: AbortSignal): Promise<string | undefined> {
    if (!this.#running.get(sandbox.id)?.resolver) return "it has none";
    const { kernel } = this.#options;
    const namespace = this.#options.namespaceOf(sandbox);
    if (!(await kernel.observe(namespace, signal))) return undefined;
    const [socket] = await kernel.openSockets(namespace, [{ protocol: "udp", address: loopback, port: 0 }], signal);
    if (!socket) return "no socket could be opened in its namespace";
    return (await answersIn(socket.fd, resolverAddress)) ? undefined : "its resolver does not answer";
  }

  async close(sandbox: SandboxRecord): Promise<void> {
    const running = this.#running.get(sandbox.id);
    this.#running.delete(sandbox.id);
    const directory = join(this.#options.directory, sandbox.id);
    const files = [sandbox.hostsPath, sandbox.resolvConfPath, join(directory, "hosts"), join(directory, "resolv.conf")];
    for (const path of files) this.#unwritten.delete(path ?? "");
    await running?.writing;
    await running?.resolver?.close();
  }

  async discard(sandboxId: string): Promise<void> {
    await this.#files.remove(join(this.#options.directory, sandboxId));
  }

  async directories(): Promise<readonly string[]> {
    const names = await readdir(this.#options.directory).catch(() => []);
    return names.filter((name) => /^[0-9a-f]{64}$/.test(name));
  }

  async closeAll(): Promise<void> {
    const all = [...this.#running.values()];
    this.#running.clear();
    await Promise.all(all.map(({ resolver }) => resolver?.close()));
  }
}

/** `container:alias` names another by a name of one's own; `alias` alone is one more name of the endpoint itself. */
const alias = (endpoint: EndpointRecord, text: string): PrivateAlias => {
  const [first = "", second] = text.split(":");
  return second === undefined
    ? { name: first, network: endpoint.network, target: endpoint.name }
    : { name: second, network: endpoint.network, target: first };
};
