import { actAtRandom } from "./act-at-random.ts";
import type { Action, Event, Outcome, Read } from "./history.ts";
import type { Answer, NodeClient } from "./node-client.ts";
import type { Random } from "./random.ts";
import { seenNetworks, seenSandboxes, seenServices } from "./views.ts";

/** Few of each, so that clients meet. */
const networkNames = ["red", "green", "blue", "black", "white"];
const serviceNames = ["web", "db", "cache", "queue", "mail", "auth"];
const containersOfNode = 4;

const weights = {
  "create-network": 2,
  "remove-network": 1,
  publish: 6,
  unpublish: 2,
  force: 1,
  attach: 6,
  detach: 3,
  "create-sandbox": 3,
  "remove-sandbox": 1,
  read: 6,
} as const;

/** What clients have heard of, to choose from; what is gone is chosen too, until a read does not show it. */
export class World {
  readonly history: Event[] = [];
  networks: readonly string[] = [];
  services: readonly string[] = [];
  readonly sandboxes = new Map<string, readonly string[]>();
  /** Pairs of endpoint and sandbox that were attached. */
  attached: { readonly endpoint: string; readonly sandbox: string; readonly node: NodeClient }[] = [];
}

/** A client that does one random thing after the other, on one node or another, and writes down what came of it. */
export class Worker {
  readonly #world: World;
  readonly #nodes: readonly NodeClient[];
  readonly #random: Random;

  constructor(world: World, nodes: readonly NodeClient[], random: Random) {
    this.#world = world;
    this.#nodes = nodes;
    this.#random = random;
  }

  run(signal: AbortSignal): Promise<void> {
    return actAtRandom(this.#random, () => this.#step(), signal);
  }

  async #step(): Promise<void> {
    const { networks, services, sandboxes, attached } = this.#world;
    const random = this.#random;
    const node = random.pick(this.#nodes) as NodeClient;
    const network = random.pick(networks);
    const service = random.pick(services);
    const sandbox = random.pick(sandboxes.get(node.name) ?? []);
    switch (random.weighted(weights)) {
      case "create-network": {
        const driver = random.pick(["test", "overlay"]) ?? "test";
        const action = {
          kind: "create-network",
          id: random.id(),
          name: random.pick(networkNames) ?? "",
          driver,
        } as const;
        const { id, name } = action;
        await this.#act(node, action, () => node.call("POST", "/networks", { id, name, network_type: driver }));
        break;
      }
      case "remove-network":
        if (network) {
          await this.#act(node, { kind: "remove-network", id: network }, () =>
            node.call("DELETE", `/networks/${network}`),
          );
        }
        break;
      case "publish":
        if (network) await this.#publish(node, network, random.pick(serviceNames) ?? "");
        break;
      case "unpublish":
        if (service) await this.#unpublish(node, service, false);
        break;
      case "force":
        if (service) await this.#unpublish(node, service, true);
        break;
      case "attach":
        if (service && sandbox) await this.#attach(node, service, sandbox);
        break;
      case "detach": {
        const pair = random.pick(attached);
        if (pair) await this.#detach(pair);
        break;
      }
      case "create-sandbox":
        await this.#createSandbox(node, `c-${node.name}-${random.below(containersOfNode)}`);
        break;
      case "remove-sandbox":
        if (sandbox) {
          await this.#act(node, { kind: "remove-sandbox", id: sandbox }, () =>
            node.call("DELETE", `/sandboxes/${sandbox}`),
          );
        }
        break;
      case "read":
        await this.read(node);
    }
  }

  /** Does it and writes it down. */
  async #act(node: NodeClient, action: Action, work: () => Promise<Answer>): Promise<Answer> {
    const begin = performance.now();
    const answer = await work();
    const { outcome, status, text } = answer;
    this.#record(node, begin, outcome, `${status} ${text.slice(0, 200)}`, action);
    return answer;
  }

  #record(node: NodeClient, begin: number, outcome: Outcome, text: string, body: Action | Read): void {
    this.#world.history.push({ node: node.name, begin, end: performance.now(), outcome, text, ...body });
  }

  async #publish(node: NodeClient, network: string, name: string): Promise<void> {
    const begin = performance.now();
    const { outcome, status, text } = await node.call("POST", `/networks/${network}/endpoints`, { name });
    const id = outcome === "ok" ? { id: JSON.parse(text) as string } : {};
    this.#record(node, begin, outcome, `${status} ${text.slice(0, 200)}`, { kind: "publish", network, name, ...id });
  }

  async #unpublish(node: NodeClient, id: string, force: boolean): Promise<void> {
    await this.#act(node, { kind: "unpublish", id, force }, () => node.call("DELETE", `/services/${id}`, { force }));
  }

  async #attach(node: NodeClient, endpoint: string, sandbox: string): Promise<void> {
    const work = () => node.call("POST", `/services/${endpoint}/backend`, { sandbox_id: sandbox });
    const { outcome } = await this.#act(node, { kind: "attach", endpoint, sandbox }, work);
    if (outcome !== "refused") this.#world.attached = [...this.#world.attached, { endpoint, sandbox, node }].slice(-30);
  }

  async #detach(pair: World["attached"][number]): Promise<void> {
    const { endpoint, sandbox, node } = pair;
    const work = () => node.call("DELETE", `/services/${endpoint}/backend/${sandbox}`);
    const { status } = await this.#act(node, { kind: "detach", endpoint, sandbox }, work);
    if (status === 200 || status === 404) this.#world.attached = this.#world.attached.filter((other) => other !== pair);
  }

  async #createSandbox(node: NodeClient, container: string): Promise<void> {
    const begin = performance.now();
    const { outcome, status, text } = await node.call("POST", "/sandboxes", { container_id: container });
    const id = outcome === "ok" ? { id: JSON.parse(text) as string } : {};
    this.#record(node, begin, outcome, `${status} ${text.slice(0, 200)}`, { kind: "create-sandbox", container, ...id });
  }

  /** Reads everything on a node. */
  async read(node: NodeClient): Promise<void> {
    let begin = performance.now();
    const networks = await seenNetworks(node);
    if (networks) {
      this.#record(node, begin, "ok", "", { kind: "read-networks", networks });
      this.#world.networks = networks.filter(({ scope }) => scope === "global").map(({ id }) => id);
    }
    begin = performance.now();
    const services = await seenServices(node);
    if (services) {
      this.#record(node, begin, "ok", "", { kind: "read-services", services });
      const global = new Set(this.#world.networks);
      this.#world.services = services.filter(({ network }) => global.has(network)).map(({ id }) => id);
    }
    begin = performance.now();
    const sandboxes = await seenSandboxes(node);
    if (sandboxes) {
      this.#record(node, begin, "ok", "", { kind: "read-sandboxes", sandboxes });
      this.#world.sandboxes.set(node.name, sandboxes);
    }
  }
}
