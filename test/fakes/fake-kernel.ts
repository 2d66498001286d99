import { isDeepStrictEqual } from "node:util";
import { forbidden, internal } from "../../src/errors.ts";
import type { ForwardDrop } from "../../src/linux/forward-drops.ts";
import type {
  ForeignChange,
  Kernel,
  NeighborTable,
  Observed,
  ObservedLink,
  OpenedSocket,
  TableDifference,
} from "../../src/linux/kernel.ts";
import type { NeighborEntry } from "../../src/linux/neighbor-entries.ts";
import type { NeighborOperation } from "../../src/linux/neighbor-executor.ts";
import type { LinkLoss } from "../../src/linux/netlink/link-loss.ts";
import {
  hostNamespace,
  inversePlan,
  type LinkSpec,
  type Operation,
  type Plan,
  type RouteSpec,
} from "../../src/linux/plan.ts";
import type { Ip } from "../../src/net/ip.ts";
import type { InterfaceAddress, Prefix } from "../../src/net/prefix.ts";

/** A link that the fake kernel has: the end of a veth pair that is in the host's namespace stands for both. */
export interface FakeLink {
  readonly alias: string | undefined;
  readonly kind: string;
  /** Where the other end of a veth pair is. */
  readonly peer?: { readonly name: string; readonly namespace: string };
}

/** What else is in a namespace: what `route.add`, `address.add` and `sysctl.set` left there. */
interface Contents {
  readonly sysctls: Map<string, string>;
  readonly routes: Map<string, string>;
  readonly addresses: Map<string, Set<string>>;
}

/**
 * A kernel that keeps what plans say, for tests of planning without root; faults can be injected by operation.
 * As in the real one, a plan that fails is undone, what is there already is adopted when it carries the same mark, and
 * a namespace or a link takes what it holds with it.
 */
export class FakeKernel implements Kernel {
  trouble: string | undefined;
  readonly applied: Operation[] = [];
  /** Operations that took others of a failed plan back. */
  readonly undone: Operation[] = [];
  readonly namespaces = new Set<string>([hostNamespace]);
  /** Links of the host by name. */
  readonly links = new Map<string, FakeLink>();
  /** Called before every operation but those that undo; what it throws, the operation fails with. */
  fault: (operation: Operation) => void = () => undefined;
  readonly #contents = new Map<string, Contents>();
  /** What links of the host were made of, for `observe`. */
  readonly #specs = new Map<string, LinkSpec>();

  async apply(plan: Plan): Promise<readonly Operation[]> {
    const done: Operation[] = [];
    try {
      for (const operation of plan) {
        this.fault(operation);
        if (this.#apply(operation)) done.push(operation);
      }
    } catch (error) {
      for (const operation of inversePlan(done)) {
        this.#apply(operation);
        this.undone.push(operation);
      }
      throw error;
    }
    return done;
  }

  async teardown(plan: Plan): Promise<void> {
    const errors: unknown[] = [];
    for (const operation of plan) {
      try {
        this.fault(operation);
        this.#apply(operation);
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw new AggregateError(errors, `${errors.length} operations failed`);
  }

  /** The machine starts anew: everything is gone but files. */
  reboot(): void {
    this.namespaces.clear();
    this.namespaces.add(hostNamespace);
    this.links.clear();
    this.#contents.clear();
  }

  /** Links of the host that carry a mark, by the id in it. */
  marked(): ReadonlyMap<string, string> {
    return new Map([...this.links].flatMap(([name, { alias }]) => (alias ? [[alias.split(":")[2] ?? "", name]] : [])));
  }

  /** Routes of a namespace by destination, as `via dev`. */
  routes(namespace: string): Readonly<Record<string, string>> {
    return Object.fromEntries(this.#inside(namespace).routes);
  }

  /** Addresses of a device. */
  addresses(namespace: string, device: string): readonly string[] {
    return [...(this.#inside(namespace).addresses.get(device) ?? [])];
  }

  /** Names of the devices that are the other end of a veth pair in a namespace. */
  devices(namespace: string): readonly string[] {
    return [...this.links.values()].flatMap(({ peer }) => (peer?.namespace === namespace ? [peer.name] : []));
  }

  /** @returns false where nothing had to change: then nothing is undone either */
  #apply(operation: Operation): boolean {
    this.applied.push(operation);
    switch (operation.op) {
      case "namespace.add":
        if (this.namespaces.has(operation.path)) return false;
        this.namespaces.add(operation.path);
        return true;
      case "namespace.delete":
        return this.#removeNamespace(operation.path);
      case "link.add":
        return operation.namespace !== hostNamespace || this.#addLink(operation.link);
      case "link.delete": {
        const found = operation.namespace === hostNamespace ? this.links.get(operation.name) : undefined;
        if (!found || (operation.alias !== undefined && found.alias !== operation.alias)) return false;
        return this.#removeLink(operation.name, found);
      }
      case "route.add":
        return this.#addRoute(operation);
      case "route.delete":
        return this.#deleteRoute(operation);
      case "address.add": {
        const { addresses } = this.#inside(operation.namespace);
        const known = addresses.get(operation.device) ?? new Set<string>();
        addresses.set(operation.device, known);
        if (known.has(operation.address)) return false;
        known.add(operation.address);
        return true;
      }
      case "sysctl.set": {
        const { sysctls } = this.#inside(operation.namespace);
        if (sysctls.get(operation.key) === operation.value) return false;
        sysctls.set(operation.key, operation.value);
        return true;
      }
      case "address.delete":
        return this.#inside(operation.namespace).addresses.get(operation.device)?.delete(operation.address) ?? false;
      case "neighbor.add":
      case "neighbor.delete":
      case "fdb.add":
      case "fdb.delete":
        return this.#changeEntry(operation);
      default:
        return true;
    }
  }

  #changeEntry(operation: NeighborOperation): boolean {
    const entries = this.neighborEntries.get(operation.namespace) ?? [];
    const key = (entry: Pick<NeighborEntry, "device" | "mac" | "ip">): string =>
      `${entry.device} ${entry.ip ?? entry.mac}`;
    const { device, mac } = operation;
    const ip = "ip" in operation ? operation.ip : undefined;
    const destination = "destination" in operation ? operation.destination : undefined;
    const entry = { device, mac, idle: 0, ...(ip && { ip }), ...(destination && { destination }) };
    const others = entries.filter((other) => key(other) !== key(entry));
    const adds = operation.op === "neighbor.add" || operation.op === "fdb.add";
    this.neighborEntries.set(operation.namespace, adds ? [...others, entry] : others);
    return true;
  }

  #addLink(link: Extract<Operation, { op: "link.add" }>["link"]): boolean {
    const found = this.links.get(link.name);
    const made: FakeLink = {
      alias: link.alias,
      kind: link.kind,
      ...(link.kind === "veth" && { peer: { name: link.peer.name, namespace: link.peer.namespace } }),
    };
    if (found && (found.alias !== link.alias || found.kind !== link.kind)) {
      throw forbidden("foreign-link", `link ${link.name} exists already and has no mark of ours`, { errno: 17 });
    }
    if (found && isDeepStrictEqual(found, made)) return false;
    if (link.master !== undefined && !this.links.has(link.master)) {
      throw internal("no-link", `there is no link ${link.master}`, { errno: 19 });
    }
    if (made.peer) {
      if (!this.namespaces.has(made.peer.namespace)) throw internal("no-namespace", "there is no such namespace");
      if (this.devices(made.peer.namespace).includes(made.peer.name)) {
        throw internal("kernel", `device ${made.peer.name} exists in the namespace`, { errno: 17 });
      }
    }
    this.links.set(link.name, made);
    this.#specs.set(link.name, link);
    return true;
  }

  #removeLink(name: string, link: FakeLink): true {
    this.links.delete(name);
    this.#forgetDevice(hostNamespace, name);
    if (link.peer) this.#forgetDevice(link.peer.namespace, link.peer.name);
    return true;
  }

  #removeNamespace(path: string): boolean {
    if (this.vacant.delete(path)) return true;
    if (!this.namespaces.delete(path)) return false;
    // Both ends of a pair go when one does.
    for (const [name, link] of [...this.links]) if (link.peer?.namespace === path) this.#removeLink(name, link);
    this.#contents.delete(path);
    return true;
  }

  /** Of several routes to one destination, the one that is meant; where nothing else is said, any. */
  #deleteRoute({ namespace, route: { to, via, device } }: Extract<Operation, { op: "route.delete" }>): boolean {
    const { routes } = this.#inside(namespace);
    const any = via === undefined && device === undefined;
    return (any || routes.get(to) === `${via} ${device}`) && routes.delete(to);
  }

  #addRoute(operation: Extract<Operation, { op: "route.add" }>): boolean {
    const { to, via, device } = operation.route;
    if (device !== undefined && operation.namespace !== hostNamespace) {
      if (!this.devices(operation.namespace).includes(device))
        throw internal("no-link", `there is no link ${device}`, { errno: 19 });
    }
    const { routes } = this.#inside(operation.namespace);
    const text = `${via} ${device}`;
    const found = routes.get(to);
    if (found !== undefined && found !== text) {
      throw internal("route-exists", `another route to ${to} exists`, { errno: 17 });
    }
    routes.set(to, text);
    return found === undefined;
  }

  #forgetDevice(namespace: string, device: string): void {
    const { routes, addresses } = this.#inside(namespace);
    addresses.delete(device);
    for (const [to, text] of [...routes]) if (text.endsWith(` ${device}`)) routes.delete(to);
  }

  #inside(namespace: string): Contents {
    let contents = this.#contents.get(namespace);
    if (!contents) {
      contents = { routes: new Map(), addresses: new Map(), sysctls: new Map() };
      this.#contents.set(namespace, contents);
    }
    return contents;
  }

  async isNamespace(path: string): Promise<boolean> {
    return this.namespaces.has(path);
  }

  async observe(namespace: string): Promise<Observed | undefined> {
    if (!this.namespaces.has(namespace)) return undefined;
    const inside = this.#inside(namespace);
    const named: readonly (readonly [string, Partial<ObservedLink>])[] =
      namespace === hostNamespace
        ? [...this.links].map(([name, { alias, kind }]) => [name, { kind, ...(alias !== undefined && { alias }) }])
        : this.devices(namespace).map((name) => [name, { kind: "veth" }]);
    const indexes = new Map(named.map(([name], n) => [name, n + 2]));
    const links = named.map(([name, more]): ObservedLink => {
      const spec = namespace === hostNamespace ? this.#specs.get(name) : this.#peerSpec(namespace, name);
      const master = spec && "master" in spec ? indexes.get(spec.master ?? "") : undefined;
      return {
        index: indexes.get(name) ?? 0,
        name,
        mtu: spec?.mtu ?? 1500,
        ...(spec?.mac !== undefined && { mac: spec.mac }),
        up: true,
        ...(master !== undefined && { master }),
        addresses: [...(inside.addresses.get(name) ?? [])] as InterfaceAddress[],
        ...more,
      };
    });
    const own = [...inside.routes].map(([to, text]): RouteSpec => {
      const [via, device] = text.split(" ");
      return { to: to as Prefix, via: via as Ip, ...(device !== undefined && { device }) };
    });
    return { links, routes: namespace === hostNamespace ? [...this.foreignRoutes, ...own] : own };
  }

  /** The other end of a pair, as it was asked for. */
  #peerSpec(namespace: string, name: string) {
    const specs = [...this.#specs.values()].flatMap((spec) => (spec.kind === "veth" ? [spec.peer] : []));
    return specs.find((peer) => peer.namespace === namespace && peer.name === name);
  }

  /** Entries by namespace: what `neighbor.add` and `fdb.add` left there. */
  readonly neighborEntries = new Map<string, NeighborEntry[]>();

  async entries(namespace: string): Promise<readonly NeighborEntry[] | undefined> {
    return this.neighborEntries.get(namespace) ?? [];
  }

  async namespacesIn(directory: string): Promise<readonly string[]> {
    return [...this.namespaces].filter((path) => path.startsWith(`${directory}/`));
  }

  /** Files of namespaces that were not mounted. */
  readonly vacant = new Set<string>();

  async vacantIn(directory: string): Promise<readonly string[]> {
    return [...this.vacant].filter((path) => path.startsWith(`${directory}/`));
  }

  async lookup(): Promise<undefined> {
    return undefined;
  }

  async openSockets(): Promise<readonly OpenedSocket[]> {
    return [];
  }

  /** What the next comparison of tables finds. */
  #differences: readonly TableDifference[] = [];
  readonly #watchers = new Set<(change: ForeignChange) => void>();

  /** Somebody else changes the host's rules. */
  changeRules(differences: readonly TableDifference[], change?: ForeignChange): void {
    this.#differences = differences;
    for (const tell of this.#watchers) tell(change);
  }

  /** What every comparison of tables finds. */
  standing: readonly TableDifference[] = [];

  async compareTables(): Promise<readonly TableDifference[]> {
    const differences = this.#differences;
    this.#differences = [];
    return [...differences, ...this.standing];
  }

  async watchTables(
    _isOurs: (table: string) => boolean,
    onChange: (change: ForeignChange) => void,
  ): Promise<() => void> {
    this.#watchers.add(onChange);
    return () => this.#watchers.delete(onChange);
  }

  neighbors: readonly NeighborTable[] = [];
  readonly #routeWatchers = new Set<() => void>();

  /** Programs that have ports, by `tcp/80`. */
  readonly portOwners = new Map<string, string>();

  async portOwner(protocol: string, port: number): Promise<string | undefined> {
    return this.portOwners.get(`${protocol}/${port}`);
  }

  drops: readonly ForwardDrop[] = [];

  async forwardDrops(): Promise<readonly ForwardDrop[]> {
    return this.drops;
  }

  async neighborTables(): Promise<readonly NeighborTable[]> {
    return this.neighbors;
  }

  /** Routes of the host that others made. */
  foreignRoutes: readonly RouteSpec[] = [];

  /** Somebody changes the host's routes. */
  changeRoutes(routes: readonly RouteSpec[]): void {
    this.foreignRoutes = routes;
    for (const tell of this.#routeWatchers) tell();
  }

  readonly #linkWatchers = new Set<(loss: LinkLoss | undefined) => void>();

  /** Somebody else takes something away. */
  lose(loss: LinkLoss | undefined): void {
    for (const tell of this.#linkWatchers) tell(loss);
  }

  async watchLinks(_mark: string, onLoss: (loss: LinkLoss | undefined) => void): Promise<() => void> {
    this.#linkWatchers.add(onLoss);
    return () => this.#linkWatchers.delete(onLoss);
  }

  async watchRoutes(onChange: () => void): Promise<() => void> {
    this.#routeWatchers.add(onChange);
    return () => this.#routeWatchers.delete(onChange);
  }

  async holdConnections(): Promise<() => void> {
    return () => undefined;
  }

  async close(): Promise<void> {}
}
